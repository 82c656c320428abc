import { z } from "zod";
import { cutText } from "./cut_text.ts";
import { tool } from "./tool.ts";

const sandbox_id = z.string().describe("Id of the sandbox. A paused one is resumed");
const path = z.string().describe("Absolute, or relative to the home directory of the user");

/** Longest text that a model is given of one output or file, characters. */
const MAX_TEXT = 60_000;

const runCommand = tool({
  name: "run_command",
  title: "Run a command",
  description:
    "Runs a command line in a login shell of a sandbox and waits for its end. Long output is cut in its middle.",
  input: {
    sandbox_id,
    command: z.string(),
    working_directory: z.string().optional().describe("Absolute. Default: the home directory of the user"),
    user: z.string().optional().describe('Default "user"; "root" is there, too'),
    stdin: z.string().optional(),
    timeout_sec: z.int().min(1).max(86_400).default(60).describe("It is killed then"),
  },
  async run({ sandbox_id, command, working_directory, timeout_sec, ...others }, { wake }) {
    const options = { ...others, workingDirectory: working_directory, timeoutSec: timeout_sec };
    const { exitCode, timedOut, stdout, stderr } = await (await wake(sandbox_id)).exec(command, options);
    return {
      exit_code: exitCode,
      ...(timedOut && { timed_out: true }),
      stdout: cutText(stdout, MAX_TEXT),
      stderr: cutText(stderr, MAX_TEXT),
    };
  },
});

const readFile = tool({
  name: "read_file",
  title: "Read a file",
  description: "The text of a file. A long one is cut in its middle.",
  input: { sandbox_id, path },
  annotations: { readOnlyHint: true },
  run: async ({ sandbox_id, path }, { wake }) => cutText(await (await wake(sandbox_id)).files.readText(path), MAX_TEXT),
});

const writeFile = tool({
  name: "write_file",
  title: "Write a file",
  description: "Makes or replaces a file, and the folders above it.",
  input: { sandbox_id, path, content: z.string() },
  async run({ sandbox_id, path, content }, { wake }) {
    const bytes = new TextEncoder().encode(content);
    await (await wake(sandbox_id)).files.write(path, bytes);
    return { written_bytes: bytes.length };
  },
});

const listFiles = tool({
  name: "list_files",
  title: "List files",
  description: "What is in a folder.",
  input: { sandbox_id, path, depth: z.int().min(1).max(32).default(1) },
  annotations: { readOnlyHint: true },
  async run({ sandbox_id, path, depth }, { wake }) {
    const files = await (await wake(sandbox_id)).files.list(path, { depth });
    return { files: files.map(({ path, type, sizeBytes }) => ({ path, type, size_bytes: Number(sizeBytes) })) };
  },
});

/** What happens inside of a sandbox. */
export const GUEST_TOOLS = [runCommand, readFile, writeFile, listFiles];
