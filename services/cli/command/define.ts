import { type ArgsDef, type CommandDef, defineCommand, type ParsedArgs } from "citty";
import { UsageError } from "./exit_codes.ts";

const COMMON = {
  json: { type: "boolean", description: "Print one JSON object on stdout; progress stays on stderr" },
} as const satisfies ArgsDef;

/** How the arguments beyond the named ones of a command are called, for its usage line. */
export const REST_ARGUMENTS = new WeakMap<object, string>();

/** What a command's `run` gets. */
export interface Invocation<Args extends ArgsDef> {
  args: ParsedArgs<Args & typeof COMMON>;
  /** What follows `--`, and for commands that take any number of arguments, those too. */
  rest: string[];
}

/** A command of this program. */
export interface Definition<Args extends ArgsDef> {
  name: string;
  description: string;
  args?: Args;
  /** How arguments beyond the named ones are called in the usage line; without it they are refused. */
  rest?: string;
  /** Returns the exit code; nothing stands for 0. */
  run(invocation: Invocation<Args>): Promise<number | void>;
}

/**
 * Defines a command with `--json`. Unlike citty alone it refuses options and arguments that it does not know.
 */
export function defineAction<const Args extends ArgsDef>(definition: Definition<Args>): CommandDef<ArgsDef> {
  const argsDef: ArgsDef = { ...definition.args, ...COMMON };
  const command = defineCommand({
    meta: { name: definition.name, description: definition.description },
    args: argsDef,
    run: async ({ args, rawArgs }) => {
      const rest = restOf(args._, rawArgs, argsDef, definition.rest !== undefined);
      refuseUnknownOptions(args, argsDef);
      const code = await definition.run({ args: args as ParsedArgs<Args & typeof COMMON>, rest });
      if (typeof code === "number") Deno.exitCode = code;
    },
  });
  if (definition.rest !== undefined) REST_ARGUMENTS.set(command, definition.rest);
  return command;
}

function restOf(positionals: string[], rawArgs: string[], argsDef: ArgsDef, allowed: boolean): string[] {
  const separator = rawArgs.indexOf("--");
  const named = Object.values(argsDef).filter((arg) => arg.type === "positional").length;
  const rest = positionals.slice(named);
  if (rest.length > 0 && !allowed) throw new UsageError(`unexpected argument: ${rest[0]}`);
  // With too few named arguments before it, "--" would lend them what follows it.
  const behind = separator < 0 ? 0 : rawArgs.length - separator - 1;
  if (behind > rest.length) throw new UsageError("arguments are missing before --");
  return rest;
}

function refuseUnknownOptions(args: Record<string, unknown>, argsDef: ArgsDef): void {
  const known = new Set(["_"]);
  for (const [name, arg] of Object.entries(argsDef)) {
    for (const spelling of [name, ...["alias" in arg ? arg.alias ?? [] : []].flat()]) {
      known.add(spelling).add(camelCase(spelling)).add(kebabCase(spelling));
    }
  }
  const unknown = Object.keys(args).find((name) => !known.has(name));
  if (unknown !== undefined) throw new UsageError(`unknown option: ${unknown.length === 1 ? "-" : "--"}${unknown}`);
}

function camelCase(name: string): string {
  return name.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function kebabCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** The integer that an option's text stands for, or undefined without the option. */
export function integerOption(text: string | undefined, option: string, min: number, max: number): number | undefined {
  if (text === undefined) return undefined;
  const value = /^[0-9]{1,15}$/.test(text) ? Number(text) : NaN;
  if (value >= min && value <= max) return value;
  throw new UsageError(`${option} must be an integer from ${min} to ${max}`);
}
