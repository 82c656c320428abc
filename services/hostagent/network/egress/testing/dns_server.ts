import dgram from "node:dgram";
import { Buffer } from "node:buffer";

const TYPES = { A: 1, AAAA: 28 } as const;
const NAME_ERROR = 3;

/** Answers to a name: addresses, for so many seconds. */
export interface Zone {
  [name: string]: { A?: string[]; AAAA?: string[]; ttl?: number };
}

/** A DNS server on a UDP port of loopback, for tests; `zone` may be changed while it runs. */
export class DnsServer implements AsyncDisposable {
  /** Names that were asked for, with the type: `example.com A`. */
  readonly queries: string[] = [];

  private constructor(private readonly socket: dgram.Socket, readonly address: string, public zone: Zone) {
    socket.on("message", (query, from) => socket.send(this.#answer(query), from.port, from.address));
  }

  /** @param host where it listens; the port is any, or `port`. */
  static async start(zone: Zone, host = "127.0.0.1", port = 0): Promise<DnsServer> {
    const socket = dgram.createSocket("udp4");
    await new Promise<void>((resolve, reject) => socket.once("error", reject).bind(port, host, resolve));
    return new DnsServer(socket, `${host}:${socket.address().port}`, zone);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise<void>((resolve) => this.socket.close(resolve));
  }

  #answer(query: Uint8Array): Uint8Array {
    const { name, type, end } = question(query);
    const kind = type === TYPES.A ? "A" : "AAAA";
    this.queries.push(`${name} ${kind}`);
    const known = this.zone[name];
    const records = (known?.[kind] ?? []).map((address) => {
      const data = kind === "A" ? Buffer.from(address.split(".").map(Number)) : ipv6(address);
      const ttl = Buffer.alloc(4);
      ttl.writeUInt32BE(known?.ttl ?? 60);
      return Buffer.concat([Buffer.from([0xc0, 12, 0, type, 0, 1]), ttl, Buffer.from([0, data.length]), data]);
    });
    const flags = [0x81, 0x80 | (known ? 0 : NAME_ERROR), 0, 1, 0, records.length, 0, 0, 0, 0];
    return Buffer.concat([query.subarray(0, 2), Buffer.from(flags), query.subarray(12, end), ...records]);
  }
}

function question(query: Uint8Array): { name: string; type: number; end: number } {
  const labels: string[] = [];
  let position = 12;
  for (let length = query[position]!; length > 0; length = query[position]!) {
    labels.push(new TextDecoder().decode(query.subarray(position + 1, position + 1 + length)));
    position += 1 + length;
  }
  return {
    name: labels.join(".").toLowerCase(),
    type: query[position + 1]! << 8 | query[position + 2]!,
    end: position + 5,
  };
}

/** @param address all eight groups, without `::`. */
function ipv6(address: string): Buffer {
  return Buffer.from(address.split(":").map((group) => group.padStart(4, "0")).join(""), "hex");
}
