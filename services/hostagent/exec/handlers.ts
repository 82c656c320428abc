import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import { asTorporError, TorporError } from "@torpor/errors";
import {
  AttachProcessResponseSchema,
  ExecStreamResponseSchema,
  type HostAgentService,
  type ProcessInfo,
  ProcessInfoSchema,
} from "@torpor/proto/hostagent";
import type { ProcessInfo as GuestProcessInfo } from "@torpor/proto/guest";
import { log } from "@torpor/telemetry";
import { requirePid, requireSignal } from "../guest/arguments.ts";
import { holdChannel } from "../guest/held_channel.ts";
import type { GuestChannel, ProcessStream } from "../guest/mod.ts";
import type { SandboxAccess } from "../sandbox/access.ts";
import { collectOutput } from "./collect_output.ts";
import { exitStatus } from "./exit_status.ts";
import { followProcess } from "./follow_process.ts";
import { processSpec } from "./process_spec.ts";

/** Of each of stdout and stderr of Exec. */
export const MAX_COLLECTED_BYTES = 64 * 1024 * 1024;
/** Stdin that one call may carry. */
export const MAX_STDIN_BYTES = 64 * 1024 * 1024;
const DEFAULT_EXEC_TIMEOUT_SEC = 30;
const SIGKILL = 9;

type ExecMethods = "exec" | "execStream" | "attachProcess" | "sendProcessInput" | "signalProcess" | "listProcesses";

/** The RPCs about processes. */
export function execHandlers(access: SandboxAccess): Pick<ServiceImpl<typeof HostAgentService>, ExecMethods> {
  return {
    async exec(request, { signal }) {
      const spec = processSpec(request, access.env(request.sandboxId), DEFAULT_EXEC_TIMEOUT_SEC);
      requireStdinSize(request.stdin, "stdin");
      return await access.use(request.sandboxId, async (channel) => {
        const stdin = request.stdin.length > 0;
        const process = await channel.startProcess({ ...spec, stdin }, { signal });
        if (stdin) feedStdin(process, request.stdin, true);
        const { stdout, stderr, exited } = await collectOrKill(channel, process);
        return { stdout, stderr, pid: process.pid, ...exitStatus(exited) };
      });
    },

    async *execStream(request, { signal }) {
      const { sandboxId, stdin, stdinBytes, holdBack } = request;
      const spec = processSpec(request, access.env(sandboxId), 0);
      requireStdinSize(stdinBytes, "stdin_bytes");
      await using held = await holdChannel(access, sandboxId);
      const withStdin = stdin || stdinBytes.length > 0;
      const process = await held.channel.startProcess({ ...spec, stdin: withStdin, holdBack }, { signal });
      if (stdinBytes.length > 0) feedStdin(process, stdinBytes, !stdin);
      for await (const event of followProcess(process)) yield create(ExecStreamResponseSchema, { event });
    },

    async *attachProcess(request, { signal }) {
      const { sandboxId, pid, afterSequence, startedAtUnixMs: startedUnixMs, holdBack } = request;
      requirePid(pid);
      await using held = await holdChannel(access, sandboxId);
      const process = await held.channel.attachProcess(pid, { afterSequence, startedUnixMs, holdBack, signal });
      for await (const event of followProcess(process)) yield create(AttachProcessResponseSchema, { event });
    },

    async sendProcessInput({ sandboxId, pid, data, eof }, { signal }) {
      requirePid(pid);
      requireStdinSize(data, "data");
      await access.use(sandboxId, (channel) => channel.writeStdin(pid, data, eof, { signal }));
      return {};
    },

    async signalProcess({ sandboxId, pid, signal }, context) {
      requirePid(pid);
      requireSignal(signal);
      await access.use(sandboxId, (channel) => channel.signalProcess(pid, signal, { signal: context.signal }));
      return {};
    },

    async listProcesses({ sandboxId }, { signal }) {
      const processes = await access.use(sandboxId, (channel) => channel.listProcesses({ signal }));
      return { processes: processes.map(processInfo) };
    },
  };
}

async function collectOrKill(channel: GuestChannel, process: ProcessStream) {
  try {
    return await collectOutput(process, MAX_COLLECTED_BYTES);
  } catch (thrown) {
    if (asTorporError(thrown).code === "output_too_large") await killProcess(channel, process.pid);
    throw thrown;
  }
}

async function killProcess(channel: GuestChannel, pid: number): Promise<void> {
  try {
    await channel.signalProcess(pid, SIGKILL);
  } catch (thrown) {
    const { code } = asTorporError(thrown);
    if (code !== "conflict" && code !== "process_not_found") throw thrown; // Those: it has ended by itself.
  }
}

/** Writes while the output is read. A process may end without reading its stdin, and other faults reach the output's reader. */
function feedStdin(process: ProcessStream, bytes: Uint8Array, close: boolean): void {
  const fed = close ? process.writeStdin(bytes).then(() => process.closeStdin()) : process.writeStdin(bytes);
  fed.catch((thrown) => {
    if (!(thrown instanceof TorporError)) log("error", "stdin_failed", {}, thrown);
  });
}

function processInfo(process: GuestProcessInfo): ProcessInfo {
  const { exited } = process;
  return create(ProcessInfoSchema, {
    pid: process.pid,
    argv: process.argv,
    user: process.user,
    workingDirectory: process.workingDirectory,
    running: process.running,
    exitCode: exited ? exitStatus(exited).exitCode : 0,
    signal: exited?.signal ?? 0,
    startedAtUnixMs: process.startedUnixMs,
  });
}

function requireStdinSize(data: Uint8Array, field: string): void {
  if (data.length <= MAX_STDIN_BYTES) return;
  throw new TorporError("payload_too_large", `${field} has more than ${MAX_STDIN_BYTES} bytes`, { field });
}
