import { assert, assertEquals } from "@std/assert";
import { asTorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import type { AttachProcessResponse, ExecStreamResponse } from "@torpor/proto/hostagent";
import {
  type HostAgentProcess,
  makeTestHome,
  processesWith,
  sandboxHelpers,
  startHostAgentProcess,
} from "@torpor/testing/hostagent";

type Client = HostAgentProcess["client"];
type Messages = AsyncIterable<Pick<ExecStreamResponse | AttachProcessResponse, "event">>;

/** What a client has of a process: its stdout, where it would go on, and how the last stream ended. */
class Log {
  text = "";
  pid = 0;
  startedAtUnixMs = 0n;
  sequence = 0n;
  gaps = 0;
  lostBytes = 0n;
  exitCode: number | undefined;

  /** Reads until the stream ends or `until` says so; returns its last event, or the code that it failed with. */
  async read(open: (options: { signal: AbortSignal }) => Messages, until = () => false): Promise<string> {
    // Leaving the loop does not end the call by itself.
    const left = new AbortController();
    let last = "";
    try {
      for await (const { event } of open({ signal: left.signal })) {
        last = event.case ?? "";
        if (event.case === "start") {
          this.pid = event.value.pid;
          this.startedAtUnixMs = event.value.startedAtUnixMs;
        } else if (event.case === "data") {
          this.text += new TextDecoder().decode(event.value.output.value);
          this.sequence = event.value.sequence;
        } else if (event.case === "gap") {
          assertEquals(event.value.firstLostSequence, this.sequence + 1n);
          this.sequence = event.value.lastLostSequence;
          this.lostBytes += event.value.lostBytes;
          this.gaps++;
        } else if (event.case === "end") this.exitCode = event.value.exitCode;
        if (until()) left.abort();
      }
    } catch (thrown) {
      return asTorporError(thrown).code;
    }
    return last;
  }

  /** Goes on behind what was read. */
  attach(client: Client, sandboxId: string, holdBack = true): (options: { signal: AbortSignal }) => Messages {
    const { pid, startedAtUnixMs, sequence: afterSequence } = this;
    return (options) => client.attachProcess({ sandboxId, pid, startedAtUnixMs, afterSequence, holdBack }, options);
  }

  get lines(): number {
    return this.text.split("\n").length - 1;
  }

  /** Each of the numbers from 1 on is there once, in order. */
  assertWhole(): void {
    const expected = Array.from({ length: this.lines }, (_, index) => `${index + 1}\n`).join("");
    assertEquals(this.text.length, expected.length);
    assert(this.text === expected);
  }
}

async function withHome(work: (home: string) => Promise<void>): Promise<void> {
  const home = await makeTestHome();
  try {
    await work(home);
    assertEquals(await processesWith(home), []);
  } finally {
    await Deno.remove(home, { recursive: true });
  }
}

const COUNTER = "i=0; while ! [ -e /tmp/stop ]; do i=$((i+1)); echo $i; sleep 0.02; done";

Deno.test("a counter's lines come once and in order over an agent's death, a pause and a fork", async () => {
  await withHome(async (home) => {
    const log = new Log();
    let sandboxId: string;
    {
      await using agent = await startHostAgentProcess(home);
      sandboxId = await sandboxHelpers(agent.client).create();
      const killed = log.read(
        (options) => agent.client.execStream({ sandboxId, cmd: COUNTER, user: "root" }, options),
        () => {
          if (log.lines === 40) Deno.kill(agent.pid, "SIGKILL");
          return false;
        },
      );
      await agent.ended;
      // Whatever was on its way: the stream has not ended as one of a command that is over.
      assertEquals(await killed, "unavailable");
    }
    await using agent = await startHostAgentProcess(home);
    const { client } = agent;
    const { run } = sandboxHelpers(client);
    // It reads on while the sandbox is paused, and is told so.
    let pausing: Promise<unknown> | undefined;
    const paused = await log.read(log.attach(client, sandboxId), () => {
      if (log.lines >= 80) pausing ??= client.pauseSandbox({ sandboxId });
      return false;
    });
    assertEquals([paused, log.lines >= 80], ["paused", true]);
    await pausing;
    await client.resumeSandbox({ sandboxId });
    await log.read(log.attach(client, sandboxId), () => log.lines >= 120);

    const forked = new Log();
    Object.assign(forked, log);
    const snapshotId = newId();
    await client.createSnapshot({ sandboxId, snapshotId, name: "f", keepSandbox: true });
    const child = newId();
    await client.createSandbox({ sandboxId: child, snapshotId });
    for (const [id, one] of [[sandboxId, log], [child, forked]] as const) {
      const before = one.lines;
      await one.read(one.attach(client, id), () => one.lines >= before + 20);
      await run(id, "touch /tmp/stop");
      assertEquals(await one.read(one.attach(client, id)), "end");
      one.assertWhole();
      assertEquals([one.exitCode, one.gaps, one.lines >= 140], [0, 0, true]);
    }
    await client.terminate({});
    await agent.ended;
  });
});

/** 14.9 MB as fast as they are taken; it ends when it is told to, so that neither death nor pause can come too late. */
const MEGABYTES = "seq 1 2000000; until [ -e /tmp/stop ]; do sleep 0.1; done";

Deno.test("a writer of megabytes waits for its reader over an agent's death and a pause: nothing is lost", async () => {
  await withHome(async (home) => {
    const log = new Log();
    let sandboxId: string;
    {
      await using agent = await startHostAgentProcess(home);
      sandboxId = await sandboxHelpers(agent.client).create();
      const killed = log.read(
        (options) => agent.client.execStream({ sandboxId, cmd: MEGABYTES, user: "root" }, options),
        () => {
          if (log.text.length > 1_000_000) Deno.kill(agent.pid, "SIGKILL");
          return false;
        },
      );
      await agent.ended;
      assertEquals(await killed, "unavailable");
    }
    await using agent = await startHostAgentProcess(home);
    const { client } = agent;
    let pausing: Promise<unknown> | undefined;
    const paused = await log.read(log.attach(client, sandboxId), () => {
      if (log.text.length > 3_000_000) pausing ??= client.pauseSandbox({ sandboxId });
      return false;
    });
    assertEquals(paused, "paused");
    await pausing;
    await client.resumeSandbox({ sandboxId });
    await sandboxHelpers(client).run(sandboxId, "touch /tmp/stop");
    assertEquals(await log.read(log.attach(client, sandboxId)), "end");
    assertEquals([log.exitCode, log.gaps, log.lines], [0, 0, 2_000_000]);
    log.assertWhole();
    await agent.client.terminate({});
    await agent.ended;
  });
});

/** Writes about 1 MiB a second, 10 MiB in all, and ends. */
const WRITER = "for i in $(seq 100); do head -c 104858 /dev/zero; sleep 0.1; done";
const WRITTEN = 100 * 104_858;

Deno.test("a reader that stalls at 1 MiB a second gets a gap, and costs nobody memory or time", async () => {
  await withHome(async (home) => {
    await using agent = await startHostAgentProcess(home);
    const { client } = agent;
    const { create, run } = sandboxHelpers(client);
    const sandboxId = await create();
    const log = new Log();
    const request = { sandboxId, cmd: WRITER, user: "root", holdBack: false };
    await log.read((options) => client.execStream(request, options), () => true);
    const { signal } = new AbortController();
    const stalled = log.attach(client, sandboxId, false)({ signal })[Symbol.asyncIterator]();
    assertEquals((await stalled.next()).value.event.case, "start");
    const before = await residentBytes(agent.pid);
    const inGuest = "grep VmHWM /proc/$(pgrep -o torpor-agent)/status | tr -dc 0-9";
    // The writer ends though its only reader does not read.
    await run(sandboxId, `while kill -0 ${log.pid} 2> /dev/null; do sleep 0.2; done`);
    const grown = await residentBytes(agent.pid) - before;
    const agentKib = Number(await run(sandboxId, inGuest));
    console.log(`host agent: ${(grown / 1e6).toFixed(1)} MB more; guest's agent: at most ${agentKib} KiB`);
    assert(grown < 64e6 && agentKib < 16_384, `${grown} bytes, ${agentKib} KiB`);
    const end = await log.read(() => ({ [Symbol.asyncIterator]: () => stalled }));
    assertEquals([end, log.gaps > 0, log.text.length + Number(log.lostBytes)], ["end", true, WRITTEN]);
    await client.terminate({});
    await agent.ended;
  });
});

async function residentBytes(pid: number): Promise<number> {
  const pages = Number((await Deno.readTextFile(`/proc/${pid}/statm`)).split(" ")[1]);
  return pages * 4096;
}
