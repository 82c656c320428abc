/** What a connection that moves little keeps while it waits for bytes. */
const MIN_BUFFER_BYTES = 2048;
const MAX_BUFFER_BYTES = 65_536;

/** The half of a TCP connection that is read. */
export interface Source {
  read(buffer: Uint8Array): Promise<number | null>;
}

/** The half that is written. */
export interface Sink {
  write(bytes: Uint8Array): Promise<number>;
  closeWrite(): Promise<void>;
}

/** Writes all of `bytes`. */
export async function writeAll(sink: Pick<Sink, "write">, bytes: Uint8Array): Promise<void> {
  for (let written = 0; written < bytes.length;) written += await sink.write(bytes.subarray(written));
}

/**
 * Passes bytes on until the end of `source`, and then that end, while the other direction goes on.
 * @param see is shown all bytes before they are passed on; when it returns false they are not, nor any others.
 */
export async function pump(
  source: Source,
  sink: Sink,
  see: (bytes: Uint8Array) => boolean = () => true,
): Promise<void> {
  let buffer = new Uint8Array(MIN_BUFFER_BYTES);
  for (;;) {
    const count = await source.read(buffer);
    if (count === null) return await endOf(sink);
    const bytes = buffer.subarray(0, count);
    if (!see(bytes)) return;
    await writeAll(sink, bytes);
    // Idle connections are many and hold little, busy ones are few: what a read fills is too small.
    if (count === buffer.length && count < MAX_BUFFER_BYTES) buffer = new Uint8Array(count * 4);
    else if (count < buffer.length / 16) buffer = new Uint8Array(MIN_BUFFER_BYTES);
  }
}

async function endOf(sink: Sink): Promise<void> {
  try {
    await sink.closeWrite();
  } catch (error) {
    // The peer has gone meanwhile: it needs no end.
    if (!(error instanceof Deno.errors.NotConnected) && !(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}
