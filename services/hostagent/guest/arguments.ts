import { TorporError } from "@torpor/errors";

// What callers may put into a request to the guest. The guest checks too; these errors name the caller's field.

/** Longest path of the guest's kernel, without its end mark. */
const MAX_PATH_BYTES = 4095;
/** Program, arguments and environment together: they travel in one frame. */
const MAX_COMMAND_BYTES = 61_440;
const MAX_ARGUMENTS = 4096;
const MAX_USER_BYTES = 63;
/** What an entry costs in the frame besides its text. */
const ENTRY_BYTES = 10;

const encoder = new TextEncoder();

/** Bytes of `text` in UTF-8. */
export function byteLength(text: string): number {
  return encoder.encode(text).length;
}

/** A path inside the guest. @throws TorporError `invalid_argument`. */
export function requirePath(path: string, field = "path"): string {
  if (path === "") throw invalid(field, "is empty");
  return requireText(path, field, MAX_PATH_BYTES);
}

/** A directory to work in; empty means the home directory. @throws TorporError `invalid_argument`. */
export function requireWorkingDirectory(path: string, field = "working_directory"): string {
  return requireText(path, field, MAX_PATH_BYTES);
}

/** The name of a user of the guest; empty means "user". @throws TorporError `invalid_argument`. */
export function requireUser(user: string, field = "user"): string {
  if (/[:\n]/.test(user)) throw invalid(field, 'contains ":" or a line break');
  return requireText(user, field, MAX_USER_BYTES);
}

/** Permission bits; 0 means the default. @throws TorporError `invalid_argument`. */
export function requireMode(mode: number, field = "mode"): number {
  if (!Number.isInteger(mode) || mode < 0 || mode > 0o7777) throw invalid(field, "is not 0 to 07777 (octal)");
  return mode;
}

/** A process number of the guest. @throws TorporError `invalid_argument`. */
export function requirePid(pid: number, field = "pid"): number {
  if (!Number.isInteger(pid) || pid < 1) throw invalid(field, "is not a process number");
  return pid;
}

/** A signal number of Linux. @throws TorporError `invalid_argument`. */
export function requireSignal(signal: number, field = "signal"): number {
  if (!Number.isInteger(signal) || signal < 1 || signal > 64) throw invalid(field, "is not 1 to 64");
  return signal;
}

/**
 * A command with its environment.
 * @param fields names of the caller's fields.
 * @throws TorporError `invalid_argument`.
 */
export function requireCommand(
  argv: string[],
  environment: Record<string, string>,
  fields = { argv: "cmd", environment: "env" },
): void {
  if (argv.length > MAX_ARGUMENTS) throw invalid(fields.argv, `has more than ${MAX_ARGUMENTS} arguments`);
  let bytes = 0;
  for (const argument of argv) bytes += ENTRY_BYTES + byteLength(requireText(argument, fields.argv));
  for (const [name, value] of Object.entries(environment)) {
    if (name === "" || name.includes("=")) throw invalid(fields.environment, `has the name "${name}"`);
    requireText(name, fields.environment);
    bytes += ENTRY_BYTES + byteLength(name) + byteLength(requireText(value, fields.environment));
  }
  if (bytes <= MAX_COMMAND_BYTES) return;
  throw new TorporError("invalid_argument", `the command and its environment exceed ${MAX_COMMAND_BYTES} bytes`, {
    field: fields.argv,
    hint: "write a longer script to a file, or send it as stdin",
  });
}

function requireText(text: string, field: string, maxBytes = Infinity): string {
  if (text.includes("\0")) throw invalid(field, "contains a zero byte");
  if (byteLength(text) > maxBytes) throw invalid(field, `is longer than ${maxBytes} bytes`);
  return text;
}

function invalid(field: string, fault: string): TorporError {
  return new TorporError("invalid_argument", `${field} ${fault}`, { field });
}
