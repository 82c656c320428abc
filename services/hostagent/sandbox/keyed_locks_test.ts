import { assertEquals, assertRejects } from "@std/assert";
import { KeyedLocks } from "./keyed_locks.ts";

Deno.test("work on one key runs one after the other, in the order of arrival", async () => {
  const locks = new KeyedLocks();
  const events: string[] = [];
  const gates = [0, 1, 2].map(() => Promise.withResolvers<void>());
  const done = gates.map((gate, i) =>
    locks.with("a", async () => {
      events.push(`begin ${i}`);
      await gate.promise;
      events.push(`end ${i}`);
    })
  );
  gates.toReversed().forEach((gate) => gate.resolve());
  await Promise.all(done);
  assertEquals(events, ["begin 0", "end 0", "begin 1", "end 1", "begin 2", "end 2"]);
});

Deno.test("different keys do not wait for each other", async () => {
  const locks = new KeyedLocks();
  using _a = await locks.acquire("a");
  using _b = await locks.acquire("b");
  assertEquals(locks.size, 2);
});

Deno.test("an entry vanishes when nobody holds or waits", async () => {
  const locks = new KeyedLocks();
  await Promise.all(Array.from({ length: 100 }, (_, i) => locks.with(`key ${i % 10}`, async () => {})));
  assertEquals(locks.size, 0);
});

Deno.test("work that throws releases the lock", async () => {
  const locks = new KeyedLocks();
  await assertRejects(() => locks.with("a", () => Promise.reject(new Error("failed"))), Error, "failed");
  assertEquals(await locks.with("a", () => Promise.resolve(1)), 1);
  assertEquals(locks.size, 0);
});

Deno.test("releasing twice does not let two in", async () => {
  const locks = new KeyedLocks();
  const first = await locks.acquire("a");
  const second = locks.acquire("a");
  const third = locks.acquire("a");
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  const held = await second;
  let thirdIn = false;
  third.then(() => thirdIn = true);
  await Promise.resolve();
  assertEquals(thirdIn, false);
  held[Symbol.dispose]();
  (await third)[Symbol.dispose]();
  assertEquals(locks.size, 0);
});

Deno.test("a waiter that gives up loses its place and blocks nobody", async () => {
  const locks = new KeyedLocks();
  const held = await locks.acquire("a");
  const controller = new AbortController();
  const gaveUp = locks.acquire("a", controller.signal);
  const next = locks.acquire("a");
  controller.abort(new Error("gone"));
  await assertRejects(() => gaveUp, Error, "gone");
  held[Symbol.dispose]();
  (await next)[Symbol.dispose]();
  await assertRejects(() => locks.acquire("a", controller.signal), Error, "gone");
  assertEquals(locks.size, 0);
});

Deno.test("tryAcquire does not wait", async () => {
  const locks = new KeyedLocks();
  const held = locks.tryAcquire("a");
  assertEquals(locks.tryAcquire("a"), undefined);
  held?.[Symbol.dispose]();
  (await locks.acquire("a"))[Symbol.dispose]();
});
