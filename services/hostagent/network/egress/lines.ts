import { MAX_LINE_LENGTH } from "./control_messages.ts";
import { writeAll } from "./pump.ts";

/** The JSON values of a connection, one a line, until its end. @throws SyntaxError, RangeError for a line that is too long. */
export async function* readLines(connection: Deno.Conn): AsyncGenerator<unknown, void, undefined> {
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(16_384);
  let text = "";
  for (let count = await connection.read(buffer); count !== null; count = await connection.read(buffer)) {
    const lines = (text + decoder.decode(buffer.subarray(0, count), { stream: true })).split("\n");
    text = lines.pop()!;
    if (text.length > MAX_LINE_LENGTH) throw new RangeError("a line of the control connection is too long");
    for (const line of lines) yield JSON.parse(line);
  }
}

/** Writes values to a connection, one a line, in the order of the calls. */
export class LineWriter {
  #last: Promise<void> = Promise.resolve();

  constructor(private readonly connection: Deno.Conn) {}

  write(value: unknown): Promise<void> {
    const bytes = new TextEncoder().encode(JSON.stringify(value) + "\n");
    const written = this.#last.catch(() => {}).then(() => writeAll(this.connection, bytes));
    this.#last = written;
    return written;
  }
}
