import type { ArgDef, CommandDef } from "citty";
import { formatTable } from "../terminal/table.ts";
import type { Paint } from "../terminal/paint.ts";
import { EXIT_CODES_HELP } from "./exit_codes.ts";
import { REST_ARGUMENTS } from "./define.ts";

/** The help text of a command. `path` are the words that lead to it, with the program's name. */
export async function helpText(command: CommandDef, path: readonly string[], paint: Paint): Promise<string> {
  const meta = await resolved(command.meta);
  const subCommands = Object.entries(await resolved(command.subCommands) ?? {});
  const args = Object.entries(await resolved(command.args) ?? {}) as [string, ArgDef][];
  const positionals = args.filter(([, arg]) => arg.type === "positional");
  const options = args.filter(([, arg]) => arg.type !== "positional");
  const usage = [
    ...path,
    ...positionals.map(([name, arg]) => arg.required === false ? `[${name.toUpperCase()}]` : name.toUpperCase()),
    ...(options.length > 0 ? ["[OPTIONS]"] : []),
    REST_ARGUMENTS.get(command) ?? "",
    ...(subCommands.length > 0 ? ["COMMAND"] : []),
  ];
  const section = (title: string, rows: string[][]) =>
    rows.length > 0 ? [`\n${paint("bold", title)}\n${formatTable(rows).replace(/^/gm, "  ")}`] : [];
  const commandRows = await Promise.all(subCommands.map(async ([name, sub]) => {
    const subMeta = await resolved((await resolved(sub))?.meta);
    return [paint("cyan", name), subMeta?.description ?? ""];
  }));
  return [
    meta?.description ?? "",
    `\n${paint("bold", "Usage")}\n  ./${usage.filter((word) => word !== "").join(" ")}`,
    ...section("Commands", commandRows),
    ...section(
      "Arguments",
      positionals.map(([name, arg]) => [paint("cyan", name.toUpperCase()), arg.description ?? ""]),
    ),
    ...section("Options", options.map(([name, arg]) => [paint("cyan", optionLabel(name, arg)), arg.description ?? ""])),
    subCommands.length > 0 ? `\nMore about one: ./${path.join(" ")} COMMAND --help` : "",
    `\n${EXIT_CODES_HELP}`,
  ].filter((line) => line !== "").join("\n");
}

function optionLabel(name: string, arg: ArgDef): string {
  const aliases = "alias" in arg ? [arg.alias ?? []].flat() : [];
  const value = arg.type === "boolean" ? "" : ` ${(arg.valueHint ?? name).toUpperCase()}`;
  return [...aliases.map((alias) => `-${alias}`), `--${name}`].join(", ") + value;
}

type Resolvable<T> = T | Promise<T> | (() => T) | (() => Promise<T>);

async function resolved<T>(value: Resolvable<T>): Promise<T> {
  return await (typeof value === "function" ? (value as () => T | Promise<T>)() : value);
}
