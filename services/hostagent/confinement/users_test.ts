import { assertEquals, assertNotEquals } from "@std/assert";
import { spawn } from "@torpor/ffi";
import { Users } from "./users.ts";

const BASE = 1_700_000;

/** Agents of one machine whose next number is the same one. */
function twoAgents(): [Users, Users] {
  const random = Math.random;
  Math.random = () => 0.5;
  try {
    return [Users.open(BASE), Users.open(BASE)];
  } finally {
    Math.random = random;
  }
}

Deno.test("a user is nobody else's while its process lives, whatever becomes of the agent", async () => {
  const [one, other] = twoAgents();
  const user = one.take();
  const [next] = [other.take()];
  assertNotEquals(next.id, user.id);
  next[Symbol.dispose]();
  const lease = user.inherit();
  const descriptors = [{ childFd: 9, fd: lease.fd }];
  const process = spawn({ path: "/bin/sleep", argv: ["sleep", "600"], env: {}, cwd: "/", descriptors, deathSignal: 9 });
  lease.close();
  user[Symbol.dispose]();
  const [third] = twoAgents();
  const another = third.take();
  assertNotEquals(another.id, user.id);
  another[Symbol.dispose]();
  const kept = other.keep(user.id);
  await process[Symbol.asyncDispose]();
  const [fourth] = twoAgents();
  const withKept = fourth.take();
  assertNotEquals(withKept.id, user.id);
  withKept[Symbol.dispose]();
  kept[Symbol.dispose]();
  const [last] = twoAgents();
  const free = last.take();
  assertEquals(free.id, user.id);
  free[Symbol.dispose]();
});
