/** ClientHellos for tests, also odd ones. @module */

export interface HelloParts {
  /** `undefined`: no server_name extension. More than one: in one list. */
  names?: readonly string[] | undefined;
  /** Further extensions: type and data. */
  extensions?: readonly (readonly [number, Uint8Array])[];
}

/** A ClientHello's handshake message. */
export function clientHello({ names = ["example.com"], extensions = [] }: HelloParts): Uint8Array {
  const list = names.flatMap((name) => [0, ...sized(2, bytesOf(name))]);
  const all = [
    ...(names.length > 0 ? [[0, Uint8Array.from(sized(2, list))] as const] : []),
    [0x2b, Uint8Array.of(2, 3, 4)] as const,
    ...extensions,
  ];
  const body = [
    3,
    3,
    ...new Uint8Array(32).fill(7),
    ...sized(1, new Uint8Array(32)),
    ...sized(2, [0x13, 0x01]),
    ...sized(1, [0]),
    ...sized(2, all.flatMap(([type, data]) => [type >> 8, type & 255, ...sized(2, data)])),
  ];
  return Uint8Array.from([1, ...sized(3, body)]);
}

/** A handshake message in TLS records of at most `size` bytes. */
export function inRecords(message: Uint8Array, size = 16_384): Uint8Array {
  const records: number[] = [];
  for (let at = 0; at < message.length; at += size) {
    records.push(0x16, 3, 1, ...sized(2, message.subarray(at, at + size)));
  }
  return Uint8Array.from(records);
}

function sized(bytes: 1 | 2 | 3, data: ArrayLike<number>): number[] {
  const length = [data.length >> 16, data.length >> 8 & 255, data.length & 255].slice(3 - bytes);
  return [...length, ...Array.from(data)];
}

function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text, (char) => char.charCodeAt(0));
}
