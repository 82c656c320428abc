import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { requireId } from "@torpor/ids";
import {
  type AttachProcessRequest,
  type AttachProcessResponse,
  AttachProcessResponseSchema,
  type ExecRequest,
  type ExecStreamRequest,
  type ExecStreamResponse,
  ExecStreamResponseSchema,
  type SandboxService,
} from "@torpor/proto/torpor";
import type { Api } from "../handlers/api.ts";
import { attachProcess, exec, execStream, type ProcessMessage } from "../handlers/exec.ts";
import { listProcesses, sendProcessInput, signalProcess } from "../handlers/processes.ts";
import { attachInput, execInput, execStreamInput, processInput, signalInput } from "../inputs/exec.ts";
import { parseInput } from "../inputs/parse.ts";
import { callerOf } from "./gate.ts";
import { processMessage } from "./messages.ts";

/** The methods about commands and processes. */
export function execMethods(api: Api) {
  return {
    async exec(request, context) {
      const sandboxId = requireId(request.sandboxId, "sandbox_id");
      const response = await exec(api, callerOf(context), sandboxId, parseInput(execInput, commandOf(request)));
      const { stdout, stderr, exitCode, signal, timedOut, pid } = response;
      return { stdout, stderr, exitCode, signal, timedOut, pid };
    },

    execStream: (request, context) => streamEvents(api, request, context),

    attachProcess: (request, context) => attachedEvents(api, request, context),

    async sendProcessInput(request, context) {
      const input = parseInput(processInput, { pid: request.pid, data: request.data, eof: request.eof });
      await sendProcessInput(api, callerOf(context), requireId(request.sandboxId, "sandbox_id"), input);
      return {};
    },

    async signalProcess(request, context) {
      const input = parseInput(signalInput, { pid: request.pid, signal: request.signal });
      await signalProcess(api, callerOf(context), requireId(request.sandboxId, "sandbox_id"), input);
      return {};
    },

    async listProcesses(request, context) {
      const processes = await listProcesses(api, callerOf(context), requireId(request.sandboxId, "sandbox_id"));
      return { processes: processes.map(processMessage) };
    },
  } satisfies Partial<ServiceImpl<typeof SandboxService>>;
}

function commandOf(request: ExecRequest | ExecStreamRequest) {
  return {
    cmd: request.cmd,
    args: request.args,
    timeout_sec: request.timeoutSec,
    env: request.env,
    working_directory: request.workingDirectory,
    user: request.user,
    stdin: request.stdin,
  };
}

async function* streamEvents(
  api: Api,
  request: ExecStreamRequest,
  context: HandlerContext,
): AsyncGenerator<ExecStreamResponse> {
  const sandboxId = requireId(request.sandboxId, "sandbox_id");
  const { keepStdinOpen: keep_stdin_open, holdBack: hold_back } = request;
  const input = parseInput(execStreamInput, { ...commandOf(request), keep_stdin_open, hold_back });
  for await (const message of await execStream(api, callerOf(context), sandboxId, input, context.signal)) {
    yield create(ExecStreamResponseSchema, { event: publicEvent(message) });
  }
}

async function* attachedEvents(
  api: Api,
  request: AttachProcessRequest,
  context: HandlerContext,
): AsyncGenerator<AttachProcessResponse> {
  const sandboxId = requireId(request.sandboxId, "sandbox_id");
  const { pid, afterSequence, startedAtUnixMs, holdBack } = request;
  const input = parseInput(attachInput, {
    pid,
    after_sequence: afterSequence,
    started_at_unix_ms: startedAtUnixMs,
    hold_back: holdBack,
  });
  for await (const message of await attachProcess(api, callerOf(context), sandboxId, input, context.signal)) {
    yield create(AttachProcessResponseSchema, { event: publicEvent(message) });
  }
}

type PublicEvent = MessageInitShape<typeof ExecStreamResponseSchema>["event"];

function publicEvent({ event }: ProcessMessage): PublicEvent {
  switch (event.case) {
    case "start": {
      const { pid, startedAtUnixMs } = event.value;
      return { case: "started", value: { pid, startedAtUnixMs } };
    }
    case "data": {
      const { output, sequence } = event.value;
      return { case: "output", value: { sequence, data: output } };
    }
    case "gap": {
      const { firstLostSequence, lastLostSequence, lostBytes } = event.value;
      return { case: "gap", value: { firstLostSequence, lastLostSequence, lostBytes } };
    }
    case "end": {
      const { exitCode, signal, timedOut } = event.value;
      return { case: "exited", value: { exitCode, signal, timedOut } };
    }
    case "paused":
      return { case: "paused", value: {} };
    default:
      return undefined;
  }
}
