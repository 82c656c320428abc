import { stripVTControlCharacters } from "node:util";

/** Colours and weights that the command line uses. */
export type Style = "bold" | "dim" | "red" | "green" | "yellow" | "blue" | "magenta" | "cyan";

const CODES: Record<Style, [number, number]> = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  blue: [34, 39],
  magenta: [35, 39],
  cyan: [36, 39],
};

/** Styles text for one output stream, or returns it as it is where the stream shows no colours. */
export type Paint = (style: Style, text: string) => string;

/** True when the stream is a terminal and neither NO_COLOR (https://no-color.org) nor TERM=dumb asks for plain text. */
export function showsColours(stream: { isTerminal(): boolean }): boolean {
  return stream.isTerminal() && !Deno.env.get("NO_COLOR") && Deno.env.get("TERM") !== "dumb";
}

/** The {@linkcode Paint} of a stream. */
export function paintFor(stream: { isTerminal(): boolean }): Paint {
  if (!showsColours(stream)) return (_style, text) => text;
  return (style, text) => `\x1b[${CODES[style][0]}m${text}\x1b[${CODES[style][1]}m`;
}

/** Text as `stream` may show it: without escape sequences where it shows no colours. */
export function fitFor(stream: { isTerminal(): boolean }, text: string): string {
  return showsColours(stream) ? text : stripVTControlCharacters(text);
}

/** Columns that `text` takes in a terminal. */
export function visibleWidth(text: string): number {
  return [...stripVTControlCharacters(text)].length;
}
