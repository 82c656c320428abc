import { readClientHello } from "./client_hello.ts";
import type { Connection } from "./connection.ts";
import { pump, writeAll } from "./pump.ts";
import { Refusal } from "./refusal.ts";

const TLS_PORT = 443;

/**
 * Passes a TLS connection on to the server that its ClientHello names. Nothing of it is decrypted.
 * @param named is called when the client has said what it wants.
 * @throws Refusal.
 */
export async function serveTls(connection: Connection, named: () => void): Promise<void> {
  const { serverName, received } = await readHello(connection);
  named();
  const upstream = await connection.connect(serverName, TLS_PORT);
  await writeAll(upstream, received);
  const see = () => (connection.active(), true);
  await connection.both(pump(connection.client, upstream, see), pump(upstream, connection.client, see));
}

async function readHello(connection: Connection): Promise<{ serverName: string; received: Uint8Array }> {
  const { helloBytes } = connection.reach.limits;
  let buffer = new Uint8Array(2048);
  let filled = 0;
  for (let needed = 1;;) {
    if (needed > helloBytes) throw new Refusal("head_too_large");
    if (filled === buffer.length || needed > buffer.length) buffer = grown(buffer, Math.max(needed, filled + 1024));
    const count = await connection.read(buffer.subarray(filled));
    if (count === null) throw new Refusal("abandoned");
    filled += count;
    if (filled < needed) continue;
    const received = buffer.subarray(0, filled);
    const result = readClientHello(received);
    if ("serverName" in result) return { ...result, received };
    needed = result.needBytes;
  }
}

function grown(buffer: Uint8Array, size: number): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(size);
  larger.set(buffer);
  return larger;
}
