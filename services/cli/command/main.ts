import { type CommandDef, runCommand } from "citty";
import { asTorporError, TorporError } from "@torpor/errors";
import { fitFor, paintFor } from "../terminal/paint.ts";
import { writeAll } from "../terminal/write_all.ts";
import { EXIT, exitCodeOf, UsageError } from "./exit_codes.ts";
import { helpText } from "./help.ts";
import { printJson } from "./print.ts";
import { commands, root } from "./root.ts";

/** Runs the program with its arguments and sets its exit code. */
export async function main(argv: string[]): Promise<void> {
  const own = argv.includes("--") ? argv.slice(0, argv.indexOf("--")) : argv;
  if (own.length === 0 || own.includes("--help") || own.includes("-h")) return await printHelp(own, Deno.stdout);
  try {
    await runCommand(root, { rawArgs: argv });
  } catch (thrown) {
    await report(thrown, own);
  }
}

async function report(thrown: unknown, argv: string[]): Promise<void> {
  // citty does not export its error class.
  const usage = thrown instanceof UsageError || thrown instanceof Error && thrown.name === "CLIError";
  Deno.exitCode = usage ? EXIT.usage : exitCodeOf(thrown);
  if (argv.includes("--json")) {
    const error = asTorporError(thrown);
    const code = usage ? "invalid_argument" : error.code;
    const message = usage ? fitFor(plain, (thrown as Error).message) : error.message;
    printJson({ error: { code, message, field: error.field, hint: error.hint } });
    if (usage) return;
  }
  const paint = paintFor(Deno.stderr);
  if (usage) {
    console.error(`${paint("red", "error:")} ${fitFor(Deno.stderr, (thrown as Error).message)}\n`);
    return await printHelp(argv, Deno.stderr);
  }
  const error = asTorporError(thrown);
  console.error(`${paint("red", "error:")} ${error.message} ${paint("dim", `[${error.code}]`)}`);
  if (error.hint) console.error(`${paint("yellow", "hint:")} ${error.hint}`);
  // What is no error of ours is a defect: show where.
  if (!(thrown instanceof TorporError)) console.error(thrown);
}

const plain = { isTerminal: () => false };

/** Prints the help of the command that `argv` names, as far as it names one. */
async function printHelp(argv: string[], stream: typeof Deno.stdout | typeof Deno.stderr): Promise<void> {
  let command: CommandDef = root;
  const path = ["torpor"];
  for (const word of argv.filter((word) => !word.startsWith("-"))) {
    const subCommands = (command === root ? commands : command.subCommands) as typeof commands | undefined;
    const next = subCommands && Object.hasOwn(subCommands, word) ? subCommands[word] : undefined;
    if (!next) break;
    path.push(word);
    command = typeof next === "function" ? await next() : next;
  }
  await writeAll(stream, new TextEncoder().encode(`${await helpText(command, path, paintFor(stream))}\n`));
}
