import { assertEquals, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { Qmp } from "./qmp.ts";

type Reply = (message: { execute: string; arguments: Record<string, unknown>; id: number }) => string;

/** A monitor that answers each line as `reply` says; raw text, so that it can also misbehave. */
class FakeMonitor implements AsyncDisposable {
  readonly path: string;
  readonly #directory: string;
  readonly #listener: Deno.UnixListener;
  readonly #serving: Promise<void>;
  #connection: Deno.UnixConn | undefined;

  constructor(reply: Reply) {
    this.#directory = Deno.makeTempDirSync();
    this.path = `${this.#directory}/qmp.sock`;
    this.#listener = Deno.listen({ transport: "unix", path: this.path });
    this.#serving = this.#serve(reply);
  }

  async send(text: string): Promise<void> {
    await this.#connection!.write(new TextEncoder().encode(text));
  }

  hangUp(): void {
    this.#connection!.close();
  }

  async #serve(reply: Reply): Promise<void> {
    const connection = this.#connection = await this.#listener.accept();
    await this.send(`{"QMP": {"version": {}, "capabilities": []}}\r\n`);
    let text = "";
    const buffer = new Uint8Array(65536);
    try {
      for (let got = 0; (got = await connection.read(buffer) ?? 0) > 0;) {
        const lines = (text + new TextDecoder().decode(buffer.subarray(0, got))).split("\n");
        text = lines.pop()!;
        for (const line of lines) {
          const message = JSON.parse(line);
          await this.send(message.execute === "qmp_capabilities" ? answer(message) : reply(message));
        }
      }
    } catch (error) {
      if (!(error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Interrupted)) throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    try {
      this.#connection?.close();
    } catch {
      // Hung up before.
    }
    await this.#serving;
    await Deno.remove(this.#directory, { recursive: true });
  }
}

function answer({ id }: { id: number }, value: unknown = {}): string {
  return JSON.stringify({ return: value, id }) + "\r\n";
}

const never = new AbortController().signal;

async function codeOf(call: Promise<unknown>): Promise<string> {
  return (await assertRejects(() => call, TorporError)).code;
}

Deno.test("commands get their own answers, also when these come out of order and in pieces", async () => {
  const held: string[] = [];
  await using monitor = new FakeMonitor((message) => {
    held.push(answer(message, message.arguments.n));
    return held.length < 3 ? "" : held.toReversed().join("");
  });
  await using qmp = await Qmp.connect(monitor.path, never);
  const results = await Promise.all([1, 2, 3].map((n) => qmp.execute("echo", { n })));
  assertEquals(results, [1, 2, 3]);
});

Deno.test("a refusal, a silence and an end are told apart", async () => {
  await using monitor = new FakeMonitor((message) =>
    message.execute === "silent"
      ? ""
      : JSON.stringify({ id: message.id, error: { class: "GenericError", desc: "no" } }) + "\n"
  );
  await using qmp = await Qmp.connect(monitor.path, never);
  const refused = await assertRejects(() => qmp.execute("refuse"), TorporError);
  assertEquals([refused.code, (refused.cause as Error).message], ["internal", "GenericError: no"]);
  assertEquals(await codeOf(qmp.execute("silent", {}, { timeoutMs: 20 })), "deadline_exceeded");
  const pending = codeOf(qmp.execute("silent"));
  const waiting = codeOf(qmp.event(() => true, "an event"));
  monitor.hangUp();
  assertEquals([await pending, await waiting], ["vm_gone", "vm_gone"]);
  assertEquals(await codeOf(qmp.execute("late")), "vm_gone");
});

Deno.test("events go to those who wait for them, and garbage between is skipped", async () => {
  await using monitor = new FakeMonitor((message) =>
    `{"event": "OTHER", "data": {}}\nnot json\n{"event": "MIGRATION", "data": {"status": "completed"}}\n` +
    answer(message)
  );
  await using qmp = await Qmp.connect(monitor.path, never);
  const event = qmp.event(({ event, data }) => event === "MIGRATION" && data.status === "completed", "the end");
  await qmp.execute("migrate-incoming");
  assertEquals((await event).data, { status: "completed" });
  assertEquals(await codeOf(qmp.event(() => true, "nothing", 20)), "deadline_exceeded");
});

Deno.test("a monitor that does not exist yet is waited for until the caller gives up", async () => {
  const reason = new TorporError("vm_gone", "ended");
  const controller = new AbortController();
  const connecting = assertRejects(() => Qmp.connect("/tmp/no-such-directory/qmp.sock", controller.signal));
  controller.abort(reason);
  assertEquals(await connecting, reason);
});
