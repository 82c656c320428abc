import { assert, assertEquals, assertGreater, assertGreaterOrEqual, assertLess } from "@std/assert";
import { join } from "@std/path";
import { type HookReport, HookResult, HookStep, StatusCode } from "@torpor/proto/guest";
import { collectRun, type GuestClient, type GuestStream, succeeded } from "./guest_client.ts";
import { startNativeAgent } from "./native_agent.ts";

const { OK, TIMED_OUT, FAILED } = HookResult;
const { FSTRIM, SYNC, DROP_CACHES, COMPACT_MEMORY, FREEZE } = HookStep;
const ALL = { fstrimMs: 2000, syncMs: 2000, dropCachesMs: 2000, compactMemoryMs: 2000 };
const WATCHDOG_MS = 60_000;

async function prepare(client: GuestClient, value: Record<string, number>): Promise<HookReport[]> {
  const { events, end } = await client.call({ case: "preparePause", value });
  assert(succeeded(end));
  return events.map((event) => {
    assert(event?.case === "hookReport");
    return event.value;
  });
}

const results = (reports: HookReport[]) => reports.map(({ step, result }) => [step, result]);

/** An agent whose reclaim steps do as told: `steps[FSTRIM - 1] = "hang"` or an errno. */
async function agentWith(steps: Record<number, string>) {
  const directory = await Deno.makeTempDir();
  for (const [step, what] of Object.entries(steps)) await Deno.writeTextFile(join(directory, step), what);
  const agent = await startNativeAgent({ TORPOR_TEST_RECLAIM: directory });
  return {
    client: agent.client,
    async [Symbol.asyncDispose]() {
      await agent[Symbol.asyncDispose]();
      await Deno.remove(directory, { recursive: true });
    },
  };
}

/** Where version 2 of the control groups is mounted on this machine. */
async function cgroupRoot(): Promise<string | undefined> {
  const lines = (await Deno.readTextFile("/proc/self/mounts")).split("\n").map((line) => line.split(" "));
  return lines.find(([, , type, options]) => type === "cgroup2" && options?.startsWith("rw"))?.[1];
}

/** An agent whose processes are in a cgroup of their own. */
async function agentWithCgroup(env: Record<string, string> = {}) {
  const cgroup = join((await cgroupRoot())!, `torpor-test-${crypto.randomUUID().slice(0, 8)}`);
  await Deno.mkdir(cgroup);
  const agent = await startNativeAgent({ ...env, TORPOR_TEST_CGROUP: cgroup });
  return {
    client: agent.client,
    isFrozen: async () => (await Deno.readTextFile(join(cgroup, "cgroup.events"))).includes("frozen 1"),
    async [Symbol.asyncDispose]() {
      await Deno.writeTextFile(join(cgroup, "cgroup.kill"), "1");
      await agent[Symbol.asyncDispose]();
      // The kernel takes a moment to take the dead out; rmdir says when it has.
      while (!await removeCgroup(cgroup)) await new Promise((resolve) => setTimeout(resolve, 5));
    },
  };
}

async function removeCgroup(path: string): Promise<boolean> {
  try {
    await Deno.remove(path);
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EBUSY") return false;
    throw error;
  }
}

const ignore = await cgroupRoot() === undefined;

async function started(stream: GuestStream): Promise<number> {
  const event = await stream.next();
  assert(event?.case === "processStarted");
  return event.value.pid;
}

Deno.test("the steps run in their order and tell what they did", async () => {
  await using agent = await agentWith({});
  const reports = await prepare(agent.client, ALL);
  assertEquals(results(reports), [[FSTRIM, OK], [SYNC, OK], [DROP_CACHES, OK], [COMPACT_MEMORY, OK]]);
  assertEquals(reports.map(({ bytesTrimmed }) => bytesTrimmed), [4096n, 0n, 0n, 0n]);
  for (const report of reports) {
    assertGreater(report.durationUs, 0n);
    assertGreater(report.freeBytesBefore, 0n);
    assertGreater(report.freeBytesAfter, 0n);
    assertEquals(report.errnoValue, 0);
  }
});

Deno.test("a cap of 0 leaves a step out, all of them too; 1 ms is a cap like any other", async () => {
  await using agent = await agentWith({ [FSTRIM - 1]: "hang", [DROP_CACHES - 1]: "hang" });
  assertEquals(results(await prepare(agent.client, { syncMs: 2000 })), [[SYNC, OK]]);
  assertEquals(await prepare(agent.client, {}), []);
  assertEquals(results(await prepare(agent.client, { dropCachesMs: 1 })), [[DROP_CACHES, TIMED_OUT]]);
});

Deno.test("a step that hangs is killed when its time is up, and the next ones run", async () => {
  await using agent = await agentWith({ [FSTRIM - 1]: "hang", [DROP_CACHES - 1]: "hang" });
  const reports = await prepare(agent.client, { ...ALL, fstrimMs: 150, dropCachesMs: 80 });
  assertEquals(results(reports), [[FSTRIM, TIMED_OUT], [SYNC, OK], [DROP_CACHES, TIMED_OUT], [COMPACT_MEMORY, OK]]);
  assertGreaterOrEqual(reports[0]!.durationUs, 150_000n);
  assertLess(reports[0]!.durationUs, 2_000_000n);
  assertGreaterOrEqual(reports[2]!.durationUs, 80_000n);
});

Deno.test("a step that fails says why, and the next ones run", async () => {
  await using agent = await agentWith({ [SYNC - 1]: "5", [COMPACT_MEMORY - 1]: "95" });
  const reports = await prepare(agent.client, ALL);
  assertEquals(results(reports), [[FSTRIM, OK], [SYNC, FAILED], [DROP_CACHES, OK], [COMPACT_MEMORY, FAILED]]);
  assertEquals(reports.map(({ errnoValue }) => errnoValue), [0, 5, 0, 95]);
});

Deno.test("the agent answers while a step hangs; a second preparation is refused; a cancelled one ends", async () => {
  await using agent = await agentWith({ [SYNC - 1]: "hang" });
  const { client } = agent;
  const hanging = await client.open({ case: "preparePause", value: { syncMs: 600_000 } });
  assertEquals((await client.call({ case: "ping", value: {} })).events[0]?.case, "pong");
  const second = await client.call({ case: "preparePause", value: { fstrimMs: 2000 } });
  assertEquals(second.end.status?.code, StatusCode.FAILED_PRECONDITION);
  await client.send(hanging.id, { case: "cancel", value: {} });
  assertEquals(results(await prepare(client, { fstrimMs: 2000 })), [[FSTRIM, OK]]);
});

Deno.test("a freeze without a watchdog is refused, and one without a cgroup fails", async () => {
  await using agent = await agentWith({});
  const { end } = await agent.client.call({ case: "preparePause", value: { freezeMs: 100 } });
  assertEquals(end.status?.code, StatusCode.INVALID_ARGUMENT);
  const [report] = await prepare(agent.client, { freezeMs: 100, watchdogMs: WATCHDOG_MS });
  assertEquals([report!.result, report!.errnoValue], [FAILED, 2]);
});

Deno.test({
  name: "processes that fork as fast as they can stand still, and go on when they are woken",
  ignore,
  async fn() {
    await using agent = await agentWithCgroup();
    const { client } = agent;
    const argv = ["sh", "-c", "while :; do (:); echo x; done"];
    const streams = await Promise.all(
      Array.from({ length: 4 }, () => client.open({ case: "startProcess", value: { argv, user: "root" } })),
    );
    for (const stream of streams) await started(stream);
    const reports = await prepare(client, { ...ALL, freezeMs: 10_000, watchdogMs: WATCHDOG_MS });
    assertEquals(results(reports).at(-1), [FREEZE, OK]);
    assert(await agent.isFrozen());

    const woken = await client.call({ case: "wake", value: { thaw: true } });
    assert(woken.events[0]?.case === "wakeReport" && woken.events[0].value.thawed);
    assert(!await agent.isFrozen());
    const again = await client.call({ case: "wake", value: { thaw: true } });
    assert(again.events[0]?.case === "wakeReport" && !again.events[0].value.thawed, "there was nothing left to thaw");
  },
});

Deno.test({
  name: "nobody wakes the guest: it thaws by itself, and not before",
  ignore,
  async fn() {
    await using agent = await agentWithCgroup();
    const { client } = agent;
    const stream = await client.open({
      case: "startProcess",
      value: { argv: ["sh", "-c", "read line; echo $line"], user: "root", stdin: true },
    });
    await started(stream);
    const begin = performance.now();
    assertEquals(results(await prepare(client, { freezeMs: 2000, watchdogMs: 400 })), [[FREEZE, OK]]);
    await stream.sendBytes("stdin", new TextEncoder().encode("hello\n"));
    const result = await collectRun(stream);
    assertGreaterOrEqual(performance.now() - begin, 400);
    assertEquals([new TextDecoder().decode(result.stdout), result.exitCode], ["hello\n", 0]);
    assert(!await agent.isFrozen());
  },
});

Deno.test({
  name: "a preparation that is cancelled, or whose host is gone, leaves nothing frozen",
  ignore,
  async fn() {
    const directory = await Deno.makeTempDir();
    await Deno.writeTextFile(join(directory, `${SYNC - 1}`), "hang");
    try {
      await using agent = await agentWithCgroup({ TORPOR_TEST_RECLAIM: directory });
      const { client } = agent;
      const freeze = { freezeMs: 2000, watchdogMs: WATCHDOG_MS };
      const hangAfterFreeze = async () => {
        assertEquals(results(await prepare(client, freeze)), [[FREEZE, OK]]);
        assert(await agent.isFrozen());
        return await client.open({ case: "preparePause", value: { syncMs: 600_000, ...freeze } });
      };
      const hanging = await hangAfterFreeze();
      await client.send(hanging.id, { case: "cancel", value: {} });
      // Frames are handled in their order.
      await client.call({ case: "ping", value: {} });
      assert(!await agent.isFrozen());

      await hangAfterFreeze();
      await client.hello();
      assert(!await agent.isFrozen());
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  },
});

Deno.test("Wake sets the identity, and refuses one that is none", async () => {
  const directory = await Deno.makeTempDir();
  const file = join(directory, "identity");
  try {
    await using agent = await startNativeAgent({ TORPOR_TEST_IDENTITY: file });
    const identity = { hostname: "other-1", machineId: "0123456789abcdef".repeat(2), generation: "g1" };
    const { events, end } = await agent.client.call({
      case: "wake",
      value: { unixNs: BigInt(Date.now()) * 1_000_000n, entropy: new Uint8Array(32), identity, thaw: true },
    });
    assert(events[0]?.case === "wakeReport");
    assertEquals(events[0].value.entropyBytes, 32);
    assertEquals(await Deno.readTextFile(file), `other-1 ${identity.machineId} g1\n`);
    assertEquals(end.spans.map(({ name }) => name), ["guest.set_clock", "guest.set_identity", "guest.thaw"]);
    const wrong: Partial<typeof identity>[] = [
      { hostname: "" },
      { hostname: "a b" },
      { hostname: "x".repeat(64) },
      { machineId: "0123" },
      { machineId: "0123456789ABCDEF".repeat(2) },
      { generation: "" },
      { generation: "a\nb" },
      { generation: "x".repeat(65) },
    ];
    for (const part of wrong) {
      const refused = await agent.client.call({ case: "wake", value: { identity: { ...identity, ...part } } });
      assertEquals(refused.end.status?.code, StatusCode.INVALID_ARGUMENT, JSON.stringify(part));
    }
    assertEquals(await Deno.readTextFile(file), `other-1 ${identity.machineId} g1\n`);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test({
  name: "who cannot become somebody else stays frozen",
  ignore,
  async fn() {
    await using agent = await agentWithCgroup();
    const { client } = agent;
    await prepare(client, { freezeMs: 2000, watchdogMs: WATCHDOG_MS });
    const identity = { hostname: "other", machineId: "0123456789abcdef".repeat(2), generation: "g1" };
    const { end } = await client.call({ case: "wake", value: { identity, thaw: true } });
    assertEquals(end.status?.errnoValue, 30); // EROFS: this platform has no file for it.
    assert((await client.call({ case: "wake", value: { thaw: true } })).events[0]?.case === "wakeReport");
  },
});
