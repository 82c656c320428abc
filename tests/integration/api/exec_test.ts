import { assert, assertEquals, assertRejects } from "@std/assert";
import type { AttachProcessRequest } from "@torpor/proto/hostagent";
import { SandboxService } from "@torpor/proto/torpor";
import { TorporError } from "@torpor/errors";
import { TestApi } from "./harness.ts";

Deno.test("exec returns text as text, other bytes in base64, and a failed command as an answer", async () => {
  await using api = await TestApi.start();
  const path = `/v1/sandboxes/${await api.createSandbox()}/exec`;
  const text = await api.call("POST", path, { json: { cmd: "cat", stdin: "grüße\n" } });
  assertEquals(text.status, 200);
  assertEquals(text.json, {
    stdout: "grüße\n",
    stdout_encoding: "utf-8",
    stderr: "grüße",
    stderr_encoding: "utf-8",
    exit_code: 0,
    signal: 0,
    timed_out: false,
    pid: 7,
  });
  const binary = (await api.call("POST", path, { json: { cmd: "bytes" } })).json;
  assertEquals(binary.stdout_encoding, "base64");
  assertEquals(Uint8Array.fromBase64(binary.stdout), Uint8Array.from({ length: 256 }, (_, i) => i));
  const stdin = (await api.call("POST", path, { json: { cmd: "cat", stdin: "/w==", stdin_encoding: "base64" } })).json;
  assertEquals([stdin.stdout, stdin.stdout_encoding], ["/w==", "base64"]);
  assertEquals((await api.call("POST", path, { json: { cmd: "fail" } })).json.exit_code, 3);
});

Deno.test("what the host is told to run is what the caller asked for", async () => {
  await using api = await TestApi.start();
  const id = await api.createSandbox();
  const json = {
    cmd: "a",
    args: ["b c", ""],
    timeout_sec: 5,
    env: { A: "1" },
    working_directory: "/tmp",
    user: "root",
  };
  await api.call("POST", `/v1/sandboxes/${id}/exec`, { json });
  const request = api.host.calls.at(-1)!.request as Record<string, unknown>;
  const { sandboxId, cmd, args, timeoutSec, env, workingDirectory, user } = request;
  assertEquals({ sandboxId, cmd, args, timeoutSec, env, workingDirectory, user }, {
    sandboxId: id,
    cmd: "a",
    args: ["b c", ""],
    timeoutSec: 5,
    env: { A: "1" },
    workingDirectory: "/tmp",
    user: "root",
  });
});

Deno.test("standard input of several MiB goes through exec", async () => {
  await using api = await TestApi.start();
  const stdin = new Uint8Array(5_000_000);
  for (let at = 0; at < stdin.length; at += 65536) crypto.getRandomValues(stdin.subarray(at, at + 65536));
  const json = { cmd: "cat", stdin: stdin.toBase64(), stdin_encoding: "base64" };
  const answer = await api.call("POST", `/v1/sandboxes/${await api.createSandbox()}/exec`, { json });
  assertEquals(Uint8Array.fromBase64(answer.json.stdout), stdin);
});

Deno.test("an exec stream is server-sent events up to the exit", async () => {
  await using api = await TestApi.start();
  const path = `/v1/sandboxes/${await api.createSandbox()}/exec/stream`;
  const answer = await api.call("POST", path, { json: { cmd: "hello" } });
  assertEquals([answer.status, answer.headers.get("content-type")], [200, "text/event-stream"]);
  assertEquals(readEvents(answer.text), [
    ["started", { pid: 7, started_at: null }],
    ["stdout", { sequence: 1, data: "AP+A" }],
    ["stderr", { sequence: 2, data: btoa("warning") }],
    ["exited", { exit_code: 3, signal: 0, timed_out: false }],
  ]);
  const missing = await api.call("POST", path, { json: { cmd: "missing" } });
  assertEquals([missing.status, missing.json.code], [404, "file_not_found"], "before the first event it is an error");
});

Deno.test("a process is followed from any event on, with gaps, up to its exit or a pause", async () => {
  await using api = await TestApi.start();
  const sandboxId = await api.createSandbox();
  const path = `/v1/sandboxes/${sandboxId}/processes/7/events`;
  const requested = () => {
    const { afterSequence, startedAtUnixMs, holdBack } = api.host.calls.at(-1)!.request as AttachProcessRequest;
    return { afterSequence, startedAtUnixMs, holdBack };
  };
  const answer = await api.call("GET", `${path}?after=4&started_at=1970-01-01T00:00:00.001Z&hold_back=true`);
  assertEquals([answer.status, answer.headers.get("content-type")], [200, "text/event-stream"]);
  assertEquals(readEvents(answer.text), [
    ["started", { pid: 7, started_at: "1970-01-01T00:00:00.001Z" }],
    ["gap", { first_lost_sequence: 5, last_lost_sequence: 6, lost_bytes: 9 }],
    ["stdout", { sequence: 7, data: btoa("tail") }],
    ["exited", { exit_code: 137, signal: 9, timed_out: false }],
  ]);
  assertEquals([...answer.text.matchAll(/^id: ?(.*)$/gm)].map(([, id]) => id), ["6", "7"]);
  assertEquals(requested(), { afterSequence: 4n, startedAtUnixMs: 1n, holdBack: true });
  // A browser that connects again tells what it had last.
  const again = await api.call("GET", `${path}?after=4`, { headers: { "last-event-id": "10" } });
  assertEquals(readEvents(again.text).at(-1), ["paused", {}]);
  assertEquals(requested(), { afterSequence: 10n, startedAtUnixMs: 0n, holdBack: false });

  using client = api.client(SandboxService);
  const seen: unknown[] = [];
  for await (const { event } of client.attachProcess({ sandboxId, pid: 7, afterSequence: 10n })) seen.push(event.case);
  assertEquals(seen, ["started", "gap", "output", "paused"]);
  const missing = await api.call("GET", `/v1/sandboxes/${sandboxId}/processes/8/events`);
  assertEquals([missing.status, missing.json.code], [404, "process_not_found"]);
  for (const query of ["after=-1", "after=x", "started_at=yesterday", "hold_back=1", "unknown=1"]) {
    assertEquals((await api.call("GET", `${path}?${query}`)).status, 422, query);
  }
  assertEquals((await api.call("GET", path, { headers: { "last-event-id": "x" } })).json.field, "last-event-id");
  const invalid = client.attachProcess({ sandboxId, pid: 0 })[Symbol.asyncIterator]();
  assertEquals((await assertRejects(() => invalid.next(), TorporError)).field, "pid");
});

Deno.test("a stream whose sandbox dies breaks off, on both surfaces", async () => {
  await using api = await TestApi.start();
  const sandboxId = await api.createSandbox();
  const response = await api.open("POST", `/v1/sandboxes/${sandboxId}/exec/stream`, { json: { cmd: "die" } });
  assertEquals(response.status, 200);
  await assertRejects(() => response.text());

  using client = api.client(SandboxService);
  const seen: string[] = [];
  const error = await assertRejects(async () => {
    for await (const { event } of client.execStream({ sandboxId, cmd: "die" })) seen.push(event.case!);
  }, TorporError);
  assertEquals([seen, error.code], [["started", "output", "output"], "vm_gone"]);
});

Deno.test("a reader that leaves ends the host's stream, on both surfaces; a slow one holds it back", async () => {
  for (const surface of ["rest", "connect"]) {
    await using api = await TestApi.start();
    const sandboxId = await api.createSandbox();
    if (surface === "rest") {
      const leaving = new AbortController();
      const path = `/v1/sandboxes/${sandboxId}/exec/stream`;
      const response = await api.open("POST", path, { json: { cmd: "forever" } }, leaving.signal);
      const reader = response.body!.getReader();
      await reader.read();
      await settled(() => api.host.produced);
      assert(api.host.produced < 32 * 1024 * 1024, `${api.host.produced} bytes were made for nobody`);
      leaving.abort();
      await reader.closed.catch(() => {});
    } else {
      using client = api.client(SandboxService);
      const leaving = new AbortController();
      await assertRejects(async () => {
        for await (const _event of client.execStream({ sandboxId, cmd: "forever" }, { signal: leaving.signal })) {
          leaving.abort();
        }
      }, TorporError);
    }
    assertEquals(await api.host.abandoned.promise, "exec", surface);
  }
});

Deno.test("a service that stops breaks its streams off instead of waiting for them", async () => {
  let response: Response;
  {
    await using api = await TestApi.start();
    const path = `/v1/sandboxes/${await api.createSandbox()}/exec/stream`;
    response = await fetch(`${api.url}${path}`, {
      method: "POST",
      headers: { "x-api-key": api.key, "content-type": "application/json" },
      body: JSON.stringify({ cmd: "silent" }),
    });
    assertEquals(response.status, 200);
  }
  await assertRejects(() => response.text());
});

Deno.test("stdin, signals and the list of processes", async () => {
  await using api = await TestApi.start();
  const path = `/v1/sandboxes/${await api.createSandbox()}/processes`;
  assertEquals((await api.call("GET", path)).json.processes, [{
    pid: 7,
    argv: ["sleep", "1"],
    user: "user",
    working_directory: "",
    running: true,
    exit_code: null,
    signal: null,
    started_at: "1970-01-01T00:00:00.001Z",
  }]);
  assertEquals((await api.call("POST", `${path}/7/stdin`, { json: { data: "hi", eof: true } })).status, 204);
  assertEquals(new TextDecoder().decode(api.host.inputs[0]), "hi");
  assertEquals((await api.call("POST", `${path}/7/signal`, { json: { signal: 9 } })).status, 204);
  assertEquals((api.host.calls.at(-1)!.request as { signal: number }).signal, 9);
  const gone = await api.call("POST", `${path}/8/signal`, { json: {} });
  assertEquals([gone.status, gone.json.code], [404, "process_not_found"]);
});

Deno.test("memory counts, and ping", async () => {
  await using api = await TestApi.start();
  const path = `/v1/sandboxes/${await api.createSandbox()}`;
  const memory = (await api.call("GET", `${path}/memory`)).json;
  assertEquals([memory.pages_total, memory.faults, memory.fault_p50_us, memory.lazy], [32768, 5, 1.5, true]);
  assertEquals((await api.call("POST", `${path}/ping`)).status, 204);
  assertEquals(api.host.calls.at(-1)!.method, "pingSandbox");
});

Deno.test("the same over ConnectRPC", async () => {
  await using api = await TestApi.start();
  using client = api.client(SandboxService);
  const { sandbox } = await client.createSandbox({ memoryMb: 128, metadata: { a: "b" } });
  const { sandboxId } = sandbox!;
  assertEquals((await client.getSandbox({ sandboxId })).sandbox, sandbox);
  assertEquals((await client.listSandboxes({ metadata: { a: "b" } })).sandboxes, [sandbox!]);
  const bytes = Uint8Array.of(1, 0, 255);
  const ran = await client.exec({ sandboxId, cmd: "cat", stdin: bytes });
  assertEquals([ran.stdout, ran.exitCode], [bytes, 0]);
  assertEquals((await client.listProcesses({ sandboxId })).processes[0]!.argv, ["sleep", "1"]);
  await client.pingSandbox({ sandboxId });
  assertEquals((await client.pauseSandbox({ sandboxId })).sandbox!.snapshot!.pagesResident, 100n);
  const conflict = await assertRejects(() => client.exec({ sandboxId, cmd: "cat" }), TorporError);
  assertEquals(conflict.code, "conflict");
  assertEquals((await client.resumeSandbox({ sandboxId, timeoutSec: 9 })).sandbox!.timeoutSec, 9);
  assertEquals((await client.deleteSandbox({ sandboxId })).confirmed, true);
  assertEquals((await assertRejects(() => client.getSandbox({ sandboxId }), TorporError)).code, "sandbox_not_found");
});

function readEvents(text: string): [string, unknown][] {
  return text.split("\n\n").filter((block) => block !== "").map((block) => {
    const fields = Object.fromEntries(
      block.split("\n").map((line) => [line.split(":", 1)[0], line.slice(line.indexOf(":") + 1)]),
    );
    return [fields.event!.trim(), JSON.parse(fields.data!)];
  });
}

/** Waits until a count no longer grows: everything between the two ends is then full. */
async function settled(count: () => number): Promise<void> {
  for (let last = -1; last !== count();) {
    last = count();
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
