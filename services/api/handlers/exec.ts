import type { z } from "zod";
import { TorporError } from "@torpor/errors";
import type { AttachProcessResponse, ExecResponse, ExecStreamResponse } from "@torpor/proto/hostagent";
import type { attachInput, execInput, execStreamInput } from "../inputs/exec.ts";
import type { Caller } from "../keys/caller.ts";
import type { Api } from "./api.ts";
import { runningSandbox } from "./running_sandbox.ts";

const DEFAULT_TIMEOUT_SEC = 30;

/** Beyond the command's own time: the way there, the kill and up to 128 MiB of output on the way back. */
const EXEC_MARGIN_MS = 30_000;

/**
 * Runs a command and collects its output (at most 64 MiB each of stdout and stderr). A command that fails or runs out of
 * time is an answer, not an error.
 * @throws TorporError `sandbox_not_found`, `conflict` when the sandbox does not run, `output_too_large`,
 * `guest_unreachable`, `deadline_exceeded`.
 */
export async function exec(
  api: Api,
  caller: Caller,
  sandboxId: string,
  input: z.output<typeof execInput>,
): Promise<ExecResponse> {
  const { host } = await runningSandbox(api, caller, sandboxId);
  const timeoutSec = input.timeout_sec || DEFAULT_TIMEOUT_SEC;
  return await host.rpc.exec({
    sandboxId,
    cmd: input.cmd,
    args: input.args,
    timeoutSec,
    env: input.env,
    workingDirectory: input.working_directory,
    user: input.user,
    stdin: input.stdin,
  }, { timeoutMs: timeoutSec * 1000 + EXEC_MARGIN_MS });
}

/** A message of a process's stream: what ExecStream and AttachProcess have in common. */
export type ProcessMessage = Pick<ExecStreamResponse | AttachProcessResponse, "event">;

/**
 * Starts a command and returns its events once it has started: errors before that are thrown here. The events end after
 * `end`, or after `paused` when the sandbox is paused; when it dies first they throw, so that no surface can take it for a
 * clean end.
 * @param signal ends the events; the command goes on.
 * @throws TorporError `sandbox_not_found`, `conflict`, `guest_unreachable`.
 */
export async function execStream(
  api: Api,
  caller: Caller,
  sandboxId: string,
  input: z.output<typeof execStreamInput>,
  signal: AbortSignal,
): Promise<AsyncGenerator<ProcessMessage>> {
  const { host } = await runningSandbox(api, caller, sandboxId);
  return await follow(api, signal, (stopping) =>
    host.rpc.execStream({
      sandboxId,
      cmd: input.cmd,
      args: input.args,
      timeoutSec: input.timeout_sec,
      env: input.env,
      workingDirectory: input.working_directory,
      user: input.user,
      stdin: input.keep_stdin_open,
      stdinBytes: input.stdin,
      holdBack: input.hold_back,
    }, { signal: stopping }));
}

/**
 * Follows a process that was started before: what its log holds behind an event, then what comes, as {@linkcode execStream}.
 * @throws TorporError `sandbox_not_found`, `process_not_found`, `guest_unreachable`; `conflict` when the sandbox does not run,
 *   or when the log ends before that event.
 */
export async function attachProcess(
  api: Api,
  caller: Caller,
  sandboxId: string,
  input: z.output<typeof attachInput>,
  signal: AbortSignal,
): Promise<AsyncGenerator<ProcessMessage>> {
  const { host } = await runningSandbox(api, caller, sandboxId);
  return await follow(api, signal, (stopping) =>
    host.rpc.attachProcess({
      sandboxId,
      pid: input.pid,
      afterSequence: input.after_sequence,
      startedAtUnixMs: input.started_at_unix_ms,
      holdBack: input.hold_back,
    }, { signal: stopping }));
}

/** Waits for the first message of a stream. */
async function follow(
  api: Api,
  signal: AbortSignal,
  open: (signal: AbortSignal) => AsyncIterable<ProcessMessage>,
): Promise<AsyncGenerator<ProcessMessage>> {
  const stop = new AbortController();
  const messages = open(AbortSignal.any([signal, stop.signal, api.stopping]))[Symbol.asyncIterator]();
  try {
    const first = await messages.next();
    if (first.done) throw endedEarly();
    return followStream(first.value, messages, stop);
  } catch (thrown) {
    stop.abort();
    throw thrown;
  }
}

async function* followStream(
  first: ProcessMessage,
  messages: AsyncIterator<ProcessMessage>,
  stop: AbortController,
): AsyncGenerator<ProcessMessage> {
  try {
    for (let message = first;;) {
      yield message;
      if (message.event.case === "end" || message.event.case === "paused") return;
      const next = await messages.next();
      if (next.done) throw endedEarly();
      message = next.value;
    }
  } finally {
    // Leaving the loop does not end the call by itself.
    stop.abort();
  }
}

function endedEarly(): TorporError {
  return new TorporError("guest_unreachable", "the stream ended before the command did");
}
