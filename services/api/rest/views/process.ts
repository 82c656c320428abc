import { z } from "@hono/zod-openapi";
import type { ExecResponse, ProcessInfo } from "@torpor/proto/hostagent";
import { textEncoding } from "../../inputs/exec.ts";
import { encodeOutput } from "../bytes.ts";
import { isoTime } from "./time.ts";

export const execView = z.object({
  stdout: z.string(),
  stdout_encoding: textEncoding.openapi({ description: '"utf-8" when stdout is valid UTF-8, else "base64".' }),
  stderr: z.string(),
  stderr_encoding: textEncoding,
  exit_code: z.int().openapi({ description: "128 + signal when a signal ended it." }),
  signal: z.int().openapi({ description: "The signal that ended it, else 0." }),
  timed_out: z.boolean(),
  pid: z.int(),
}).openapi("ExecResult");

export const processView = z.object({
  pid: z.int(),
  argv: z.array(z.string()),
  user: z.string(),
  working_directory: z.string(),
  running: z.boolean(),
  exit_code: z.int().nullable().openapi({ description: "null while it runs." }),
  signal: z.int().nullable(),
  started_at: z.iso.datetime(),
}).openapi("Process");

export const processListView = z.object({ processes: z.array(processView) }).openapi("ProcessList");

/** What a command did. */
export function viewExec(response: ExecResponse): z.input<typeof execView> {
  const [stdout, stderr] = [encodeOutput(response.stdout), encodeOutput(response.stderr)];
  return {
    stdout: stdout.text,
    stdout_encoding: stdout.encoding,
    stderr: stderr.text,
    stderr_encoding: stderr.encoding,
    exit_code: response.exitCode,
    signal: response.signal,
    timed_out: response.timedOut,
    pid: response.pid,
  };
}

/** A process of a sandbox. */
export function viewProcess(process: ProcessInfo): z.input<typeof processView> {
  return {
    pid: process.pid,
    argv: process.argv,
    user: process.user,
    working_directory: process.workingDirectory,
    running: process.running,
    exit_code: process.running ? null : process.exitCode,
    signal: process.running ? null : process.signal,
    started_at: isoTime(process.startedAtUnixMs),
  };
}
