import { z } from "@hono/zod-openapi";
import { byteLength, environment, plainText, recordBytes, userName } from "./text.ts";

/** A command, its arguments and its environment travel to the guest in one frame of 68 KiB (guest.v1). */
const MAX_COMMAND_BYTES = 40 * 1024;

/** Largest standard input of one call, bytes. More: keep stdin open and send it in pieces. */
export const MAX_STDIN_BYTES = 16 * 1024 * 1024;

const commandFields = {
  cmd: plainText(MAX_COMMAND_BYTES, 1).openapi({
    description: "With args: the program. Without: a command line for `/bin/bash -l -c`.",
    example: "echo hello",
  }),
  args: z.array(plainText(MAX_COMMAND_BYTES)).max(1024).default([]),
  timeout_sec: z.int().min(0).max(86_400).default(0).openapi({
    description: "The command is killed after this time. 0: 30 s for exec, none for a stream.",
  }),
  env: environment(MAX_COMMAND_BYTES),
  working_directory: plainText(4096).default("").openapi({ description: "Default: the user's home directory." }),
  user: userName,
};

const stdinBytes = z.instanceof(Uint8Array)
  .refine((bytes) => bytes.length <= MAX_STDIN_BYTES, `must have at most ${MAX_STDIN_BYTES} bytes`)
  .default(new Uint8Array());

interface Command {
  cmd: string;
  args: string[];
  env: Record<string, string>;
  working_directory: string;
}

/** One frame holds the command; each argument and variable adds a few bytes of framing. */
function fitsOneFrame(command: Command): boolean {
  const texts = [command.cmd, command.working_directory, ...command.args];
  const bytes = texts.reduce((sum, text) => sum + byteLength(text) + 4, recordBytes(command.env));
  return bytes <= MAX_COMMAND_BYTES;
}

const tooLong = {
  path: ["cmd"],
  message: `cmd, args, env and working_directory must have at most ${MAX_COMMAND_BYTES} bytes together`,
};

/** A command to run, its standard input as bytes. */
export const execInput = z.strictObject({ ...commandFields, stdin: stdinBytes }).refine(fitsOneFrame, tooLong);

/** The description of `hold_back`. */
export const holdBack = {
  description: "true: the command waits for a slow reader, as the reader of a pipe makes it, and up to 30 s for one " +
    "that is gone. false: it never waits, and the reader gets a `gap`.",
};

export const execStreamInput = z.strictObject({
  ...commandFields,
  stdin: stdinBytes,
  keep_stdin_open: z.boolean().default(false),
  hold_back: z.boolean().default(true),
}).refine(fitsOneFrame, tooLong);

export const textEncoding = z.enum(["utf-8", "base64"]);

const jsonStdin = {
  stdin: z.string().default(""),
  stdin_encoding: textEncoding.default("utf-8").openapi({
    description: 'How `stdin` is written: "utf-8" or "base64".',
  }),
};

/** The JSON form of {@linkcode execInput}: standard input is text. */
export const execJson = z.strictObject({ ...commandFields, ...jsonStdin }).openapi("Exec");

/** The JSON form of {@linkcode execStreamInput}. */
export const execStreamJson = z.strictObject({
  ...commandFields,
  ...jsonStdin,
  keep_stdin_open: z.boolean().default(false).openapi({
    description: "Keep stdin open after `stdin`, for POST …/processes/{pid}/stdin.",
  }),
  hold_back: z.boolean().default(true).openapi(holdBack),
}).openapi("ExecStream");

/** Process ids of Linux end at 2^22. */
export const processId = z.int().min(1).max(4_194_304);

export const processInput = z.strictObject({
  pid: processId,
  data: stdinBytes,
  eof: z.boolean().default(false),
});

export const processInputJson = z.strictObject({
  data: z.string().default(""),
  data_encoding: textEncoding.default("utf-8"),
  eof: z.boolean().default(false).openapi({ description: "Close stdin after `data`." }),
}).openapi("ProcessInput");

/** Which output of a process is wanted, and how its reader is treated. */
export const attachInput = z.strictObject({
  pid: processId,
  after_sequence: z.bigint().min(0n).max(2n ** 64n - 1n).default(0n),
  started_at_unix_ms: z.bigint().min(-(2n ** 63n)).max(2n ** 63n - 1n).default(0n),
  hold_back: z.boolean().default(false),
});

export const signalInput = z.strictObject({ pid: processId, signal: z.int().min(1).max(64) });

export const signalJson = z.strictObject({
  signal: z.int().min(1).max(64).default(15).openapi({ description: "A signal's number. Default 15 (SIGTERM)." }),
}).openapi("Signal");
