import { assert, assertEquals, assertNotEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { nativeFiles, openLibrary } from "@torpor/ffi";
import { homePaths, torporHome } from "@torpor/config";
import { TorporError } from "@torpor/errors";
import { EGRESS_UID } from "./egress_user.ts";
import { type EgressConfig, endEgressProxy, startEgressProxy } from "./host_egress.ts";
import { DnsServer } from "./testing/dns_server.ts";
import { exchange, freePort } from "./testing/loopback.ts";
import type { EgressProxy } from "./types.ts";

openLibrary(nativeFiles(Deno.env.get("TORPOR_LIB_DIR") ?? homePaths(torporHome()).native).library);

const SLOT = { hostAddress: "127.0.0.2", slotAddress: "127.0.0.1" };
const OTHER = { hostAddress: "127.0.0.4", slotAddress: "127.0.0.5" };
/** It resolves to loopback: the proxy refuses that, so what a test sees of it is how it refuses. */
const ZONE = { "local.example.com": { A: ["127.0.0.1"] } };

/** A directory, a resolver, and what a proxy is started with; all of it goes at the end, and the proxy's process with it. */
class Ground implements AsyncDisposable {
  private constructor(readonly directory: string, readonly dns: DnsServer, readonly config: EgressConfig) {}

  static async make(): Promise<Ground> {
    const directory = await Deno.makeTempDir({ prefix: "egress-" });
    const dns = await DnsServer.start(ZONE);
    const egress = { httpPort: freePort(), tlsPort: freePort() };
    return new Ground(join(directory, "egress"), dns, { cidr: "10.250.0.0/16", dns: [dns.address], egress });
  }

  start(config: Partial<EgressConfig> = {}): Promise<EgressProxy> {
    return startEgressProxy({ ...this.config, ...config }, this.directory);
  }

  async ask(name: string): Promise<string> {
    const connection = await Deno.connect({ hostname: SLOT.hostAddress, port: this.config.egress.httpPort });
    return await exchange(connection, `GET / HTTP/1.1\r\nHost: ${name}\r\n\r\n`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await endEgressProxy(this.directory);
    await this.dns[Symbol.asyncDispose]();
    await Deno.remove(join(this.directory, ".."), { recursive: true });
  }
}

/** The process that serves. */
async function pidOf(egress: EgressProxy): Promise<number> {
  const { pid } = await egress.stats();
  assert(pid !== undefined);
  return pid;
}

/** Fields of /proc/PID/status by name. */
async function status(pid: number): Promise<Record<string, string>> {
  const text = await Deno.readTextFile(`/proc/${pid}/status`);
  return Object.fromEntries(text.split("\n").filter(Boolean).map((line) => line.split(":\t") as [string, string]));
}

async function isGone(pid: number): Promise<boolean> {
  return await status(pid).then(
    ({ State }) => State!.startsWith("Z"),
    (error) => error instanceof Deno.errors.NotFound,
  );
}

Deno.test("the proxy's process has a user of its own and no rights, and serves what its rules say", async () => {
  await using ground = await Ground.make();
  const egress = await ground.start();
  await egress.setRules(SLOT, ["local.example.com"]);
  const refused = await ground.ask("local.example.com");
  assertStringIncludes(refused, "torpor-egress-refused: reserved_address");
  assertStringIncludes(await ground.ask("other.example.com"), "torpor-egress-refused: not_allowed");
  const { slots, outcomes } = await egress.stats();
  const pid = await pidOf(egress);
  assertEquals([slots, outcomes], [1, { reserved_address: 1, not_allowed: 1 }]);
  const { Uid, Gid, Groups, CapPrm, CapEff, CapInh, CapAmb, NoNewPrivs } = await status(pid);
  const isRoot = Deno.uid() === 0;
  const user = isRoot ? EGRESS_UID : Deno.uid();
  assertEquals([Uid, Gid], [Array(4).fill(user).join("\t"), Array(4).fill(isRoot ? user : Deno.gid()).join("\t")]);
  if (isRoot) assertEquals(Groups!.trim(), "");
  assertEquals([CapPrm, CapEff, CapInh, CapAmb, NoNewPrivs], [...Array(4).fill("0".repeat(16)), "1"]);
  await egress.close({ keep: false });
  assert(await isGone(pid));
});

Deno.test("a slot without rules has no listener, and rules are in force when the call returns", async () => {
  await using ground = await Ground.make();
  const egress = await ground.start();
  assertEquals((await egress.stats()).pid, undefined);
  await egress.setRules(SLOT, undefined);
  await egress.setRules(OTHER, ["local.example.com"]);
  await assertRejects(() => ground.ask("local.example.com"), Deno.errors.ConnectionRefused);
  await egress.setRules(SLOT, ["*.example.com"]);
  assertStringIncludes(await ground.ask("local.example.com"), "reserved_address");
  await egress.setRules(SLOT, ["example.com"]);
  assertStringIncludes(await ground.ask("local.example.com"), "not_allowed");
  await egress.setRules(SLOT, undefined);
  await assertRejects(() => ground.ask("local.example.com"), Deno.errors.ConnectionRefused);
  await egress.close({ keep: false });
});

Deno.test("rules that cannot be in force are told as that", async () => {
  await using ground = await Ground.make();
  const egress = await ground.start();
  const gone = { hostAddress: "192.0.2.1", slotAddress: "192.0.2.2" };
  assertEquals((await assertRejects(() => egress.setRules(gone, ["a.com"]), TorporError)).code, "unavailable");
  assertEquals((await assertRejects(() => egress.setRules(SLOT, ["10.0.0.1"]), TorporError)).code, "unavailable");
  await egress.setRules(SLOT, ["a.com"]);
  assertEquals((await egress.stats()).slots, 1);
  await egress.close({ keep: false });
});

Deno.test("an agent that comes back takes the process over, with rules and open connections", async () => {
  await using ground = await Ground.make();
  const first = await ground.start();
  await first.setRules(SLOT, ["local.example.com"]);
  await first.setRules(OTHER, ["local.example.com"]);
  const pid = await pidOf(first);
  const open = await Deno.connect({ hostname: SLOT.hostAddress, port: ground.config.egress.httpPort });
  await first.close({ keep: true });
  assertStringIncludes(await ground.ask("local.example.com"), "reserved_address");
  const second = await ground.start();
  const taken = await second.stats();
  assertEquals([taken.pid, taken.slots], [pid, 2]);
  assertStringIncludes(await exchange(open, "GET / HTTP/1.1\r\nHost: x.example.com\r\n\r\n"), "not_allowed");
  // The other slot's sandbox has gone while there was no agent.
  await second.retain([SLOT.slotAddress]);
  assertEquals((await second.stats()).slots, 1);
  // An agent that knows nothing of the rules can take them away.
  await second.setRules(SLOT, undefined);
  assertEquals((await second.stats()).slots, 0);
  await second.close({ keep: false });
  assert(await isGone(pid));
});

Deno.test("a process that was started with another configuration is replaced", async () => {
  await using ground = await Ground.make();
  const first = await ground.start();
  await first.setRules(SLOT, ["local.example.com"]);
  const pid = await pidOf(first);
  await first.close({ keep: true });
  const second = await ground.start({ cidr: "10.251.0.0/16" });
  assert(await isGone(pid));
  await second.setRules(SLOT, ["local.example.com"]);
  assertNotEquals(await pidOf(second), pid);
  await second.close({ keep: false });
});

Deno.test("a process that was killed is started anew with all rules", async () => {
  await using ground = await Ground.make();
  const egress = await ground.start();
  await egress.setRules(SLOT, ["local.example.com"]);
  const pid = await pidOf(egress);
  Deno.kill(pid, "SIGKILL");
  const ask = () =>
    ground.ask("local.example.com").catch((error) => {
      if (error instanceof Deno.errors.ConnectionRefused || error instanceof Deno.errors.ConnectionReset) return "";
      throw error;
    });
  let answer = "";
  while (answer === "") answer = await ask();
  assertStringIncludes(answer, "reserved_address");
  assertNotEquals(await pidOf(egress), pid);
  await egress.close({ keep: false });
});

Deno.test("a process that stands still is killed, so that rules which were taken away are not in force", async () => {
  await using ground = await Ground.make();
  const egress = await ground.start();
  await egress.setRules(SLOT, ["local.example.com"]);
  const pid = await pidOf(egress);
  Deno.kill(pid, "SIGSTOP");
  const error = await assertRejects(() => egress.setRules(SLOT, undefined), TorporError);
  assertEquals(error.code, "unavailable");
  assert(await isGone(pid));
  await assertRejects(() => ground.ask("local.example.com"), Deno.errors.ConnectionRefused);
  await egress.close({ keep: false });
});
