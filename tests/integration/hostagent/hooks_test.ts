import { assert, assertEquals, assertGreater, assertLess, assertNotEquals, assertRejects } from "@std/assert";
import { newId } from "@torpor/ids";
import {
  eventually,
  makeTestHome,
  sandboxHelpers,
  startHostAgentProcess,
  startTestHostAgent,
  type TestHostAgent,
} from "@torpor/testing/hostagent";

const ALL = { fstrimMs: 5000, syncMs: 5000, dropCachesMs: 5000, compactMemoryMs: 8000 };

const OUTCOMES = (hooks: { step: string; outcome: string }[]) => hooks.map(({ step, outcome }) => `${step} ${outcome}`);

/** A process that writes the time into a file in memory, again and again, without starting another one. */
const TICK = `python3 -c '
import time
while True:
    open("/dev/shm/tick", "w").write("%.3f" % time.clock_gettime(time.CLOCK_MONOTONIC))
    time.sleep(0.02)' > /dev/null 2>&1 & echo $!
    while ! test -s /dev/shm/tick; do sleep 0.05; done`;

async function frozen(host: TestHostAgent, id: string): Promise<string> {
  return await host.run(id, "grep frozen /sys/fs/cgroup/user/cgroup.events");
}

Deno.test("a pause freezes the user's processes and does nothing else, unless it is asked to", async (t) => {
  let failAt = "";
  const onStep = (step: string) => {
    if (step !== failAt) return;
    failAt = "";
    throw new Error("injected");
  };
  await using host = await startTestHostAgent({ overrides: { onStep } });
  const id = await host.create();
  const pid = await host.run(id, TICK);

  await t.step("freeze alone by default; after the resume everything runs", async () => {
    const { hooks } = await host.client.pauseSandbox({ sandboxId: id });
    assertEquals(OUTCOMES(hooks), ["freeze ok"]);
    await host.client.resumeSandbox({ sandboxId: id });
    assertEquals(await frozen(host, id), "frozen 0");
    const before = await host.run(id, "cat /dev/shm/tick");
    await eventually(async () => await host.run(id, "cat /dev/shm/tick") !== before ? true : undefined, "a later tick");
    await host.run(id, `kill -0 ${pid}`);
  });

  await t.step("every step that is asked for is reported, in order, with what it did", async () => {
    await host.run(id, "head -c 30000000 /dev/urandom > /root/junk; sync; rm /root/junk; find / -xdev > /dev/null");
    const { hooks, snapshot } = await host.client.pauseSandbox({ sandboxId: id, reclaim: ALL });
    assertEquals(OUTCOMES(hooks), [
      "fstrim ok",
      "sync ok",
      "drop_caches ok",
      "compact_memory ok",
      "report_free ok",
      "freeze ok",
    ]);
    const [fstrim, , dropCaches] = hooks;
    assertGreater(fstrim!.bytesTrimmed, 30_000_000n);
    assertGreater(dropCaches!.freeBytesAfter, dropCaches!.freeBytesBefore);
    for (const hook of hooks) assertGreater(hook.durationUs, 0n);
    assertGreater(snapshot!.generation, 1);
    await host.client.resumeSandbox({ sandboxId: id });
    await host.run(id, `kill -0 ${pid}`);
  });

  await t.step("a pause that fails thaws at once, long before the guest's watchdog would", async () => {
    failAt = "pause.commit";
    await assertRejects(() => host.client.pauseSandbox({ sandboxId: id }));
    assertEquals(failAt, "");
    const begin = performance.now();
    assertEquals(await frozen(host, id), "frozen 0");
    assertLess(performance.now() - begin, 5000);
    await host.run(id, `kill -0 ${pid}`);
  });
});

Deno.test("caps come from the pause, else from the sandbox, else from the deployment", async () => {
  await using host = await startTestHostAgent({
    overrides: { reclaim: { fstrim_ms: 0, sync_ms: 4000, drop_caches_ms: 0, compact_memory_ms: 0 } },
  });
  const id = await host.create();
  const pause = async (reclaim?: Record<string, number>) => {
    const { hooks } = await host.client.pauseSandbox({ sandboxId: id, reclaim });
    await host.client.resumeSandbox({ sandboxId: id });
    return OUTCOMES(hooks);
  };
  assertEquals(await pause(), ["sync ok", "freeze ok"]);
  assertEquals(await pause({ dropCachesMs: 3000 }), ["drop_caches ok", "freeze ok"]);
  assertEquals(await pause({}), ["freeze ok"]);
  await host.client.destroySandbox({ sandboxId: id });
  const request = { vcpus: 1, memoryMb: 192, diskSizeMb: 512 };
  const { sandboxId } = await host.client.createSandbox({
    ...request,
    sandboxId: newId(),
    reclaim: { fstrimMs: 3000 },
  });
  assertEquals(OUTCOMES((await host.client.pauseSandbox({ sandboxId })).hooks), ["fstrim ok", "freeze ok"]);
});

Deno.test("a guest whose agent is gone is paused all the same", async () => {
  await using host = await startTestHostAgent();
  const id = await host.create();
  // Stopped, not killed: init would start another one.
  const stop = { sandboxId: id, cmd: "kill -STOP $(pidof torpor-agent)", user: "root" };
  await assertRejects(() => host.client.exec(stop, { signal: AbortSignal.timeout(3000) }));
  const begin = performance.now();
  const { hooks } = await host.client.pauseSandbox({ sandboxId: id, reclaim: { syncMs: 500 } });
  assertEquals(OUTCOMES(hooks), ["sync timed_out", "freeze timed_out"]);
  assertLess(performance.now() - begin, 30_000);
});

Deno.test("a booted sandbox is called by its id, and says who it is", async () => {
  await using host = await startTestHostAgent();
  const id = await host.create();
  assertEquals(
    await host.run(id, "hostname; getent hosts $(hostname) > /dev/null && sudo -n true; wc -c < /etc/machine-id"),
    `${id}\n33`,
  );
  const generation = await host.run(id, "cat /run/torpor/generation");
  assert(/^[0-9a-f]{32}$/.test(generation), generation);
  await host.client.pauseSandbox({ sandboxId: id });
  await host.client.resumeSandbox({ sandboxId: id });
  assertEquals(await host.run(id, "cat /run/torpor/generation"), generation);
});

Deno.test("who is spawned is somebody else before a process of the user runs, and a watcher is told", async () => {
  await using host = await startTestHostAgent();
  const id = await host.create();
  // Watches the generation by inotify, and notes hostname and machine id at the moment it changes.
  await host.run(
    id,
    `cat > /root/watch.py <<'END'
import ctypes, os, socket
libc = ctypes.CDLL(None)
fd = libc.inotify_init()
assert libc.inotify_add_watch(fd, b"/run/torpor/generation", 0x8) > 0
open("/dev/shm/watching", "w").write("1")
os.read(fd, 4096)
open("/dev/shm/seen", "w").write(socket.gethostname() + " " + open("/etc/machine-id").read() + open("/run/torpor/generation").read())
END
     python3 /root/watch.py > /dev/null 2>&1 &
     while ! test -e /dev/shm/watching; do sleep 0.05; done`,
  );
  const identity = "hostname; cat /etc/machine-id /run/torpor/generation";
  const source = (await host.run(id, identity)).split("\n");
  const keep = async () =>
    (await host.client.createSnapshot({ sandboxId: id, keepSandbox: true })).snapshot!.snapshotId;
  const live = await keep();
  // The source goes on as who it was.
  assertEquals((await host.run(id, `${identity}; ls /dev/shm/seen 2> /dev/null || true`)).split("\n"), source);
  assertEquals(await frozen(host, id), "frozen 0");
  await host.client.pauseSandbox({ sandboxId: id });
  const draws: string[] = [];
  for (const snapshotId of [live, live, await keep()]) {
    const { sandboxId } = await host.client.createSandbox({ sandboxId: newId(), snapshotId });
    assertEquals(await frozen(host, sandboxId), "frozen 0");
    const own = (await host.run(sandboxId, identity)).split("\n");
    assertEquals(own[0], sandboxId);
    assertNotEquals(own[1], source[1]);
    assertNotEquals(own[2], source[2]);
    const seen = await eventually(
      async () => (await host.run(sandboxId, "cat /dev/shm/seen 2>/dev/null || true")) || undefined,
      "the watcher's note",
    );
    assertEquals(seen.split(/\s+/), own);
    draws.push(own[1]!, own[2]!, await host.run(sandboxId, "head -c 16 /dev/urandom | od -An -tx1"));
    await host.client.destroySandbox({ sandboxId });
  }
  assertEquals(new Set(draws).size, draws.length);
});

Deno.test("an agent that dies when it has frozen a guest leaves it to its successor, not to the guest's watchdog", async () => {
  const home = await makeTestHome();
  try {
    let id: string;
    {
      await using first = await startHostAgentProcess(home, { crashAt: "pause.stop" });
      id = await sandboxHelpers(first.client).create();
      await assertRejects(() => first.client.pauseSandbox({ sandboxId: id }));
      await first.ended;
    }
    const died = performance.now();
    await using second = await startHostAgentProcess(home);
    // Would wait in the frozen cgroup, too.
    assertEquals(await sandboxHelpers(second.client).run(id, "echo runs"), "runs");
    assertLess(performance.now() - died, 9000);
    await second.client.terminate({});
    await second.ended;
  } finally {
    await Deno.remove(home, { recursive: true });
  }
});
