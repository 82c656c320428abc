import type { z } from "zod";
import { TorporError } from "@torpor/errors";
import type { ExecResponse, ExecStreamResponse } from "@torpor/proto/hostagent";
import type { execInput, execStreamInput } from "../inputs/exec.ts";
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

/**
 * Starts a command and returns its events once it has started: errors before that are thrown here. The events end after
 * `end`; when the sandbox dies first they throw, so that no surface can take it for a clean end.
 * @param signal ends the events; the command goes on.
 * @throws TorporError `sandbox_not_found`, `conflict`, `guest_unreachable`.
 */
export async function execStream(
  api: Api,
  caller: Caller,
  sandboxId: string,
  input: z.output<typeof execStreamInput>,
  signal: AbortSignal,
): Promise<AsyncGenerator<ExecStreamResponse>> {
  const { host } = await runningSandbox(api, caller, sandboxId);
  const stop = new AbortController();
  const messages = host.rpc.execStream({
    sandboxId,
    cmd: input.cmd,
    args: input.args,
    timeoutSec: input.timeout_sec,
    env: input.env,
    workingDirectory: input.working_directory,
    user: input.user,
    stdin: input.keep_stdin_open,
    stdinBytes: input.stdin,
  }, { signal: AbortSignal.any([signal, stop.signal, api.stopping]) })[Symbol.asyncIterator]();
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
  first: ExecStreamResponse,
  messages: AsyncIterator<ExecStreamResponse>,
  stop: AbortController,
): AsyncGenerator<ExecStreamResponse> {
  try {
    for (let message = first;;) {
      yield message;
      if (message.event.case === "end") return;
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
