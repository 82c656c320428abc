/** The host's side of the framing in guest.proto, as small as a test needs it. */

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = (value >>> 1) ^ ((value & 1) ? 0xedb88320 : 0);
  return value;
});

/** CRC-32 (IEEE). */
export function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) crc = (crc >>> 8) ^ CRC_TABLE[(crc ^ bytes[i]!) & 0xff]!;
  return (crc ^ 0xffffffff) >>> 0;
}

/** COBS(payload || crc32) and a zero byte. */
export function encodeFrame(payload: Uint8Array): Uint8Array<ArrayBuffer> {
  const plain = new Uint8Array(payload.length + 4);
  plain.set(payload);
  new DataView(plain.buffer).setUint32(payload.length, crc32(payload), true);
  const out = new Uint8Array(plain.length + Math.ceil(plain.length / 254) + 2);
  let codeAt = 0, written = 1, code = 1;
  for (const byte of plain) {
    if (byte !== 0) {
      out[written++] = byte;
      code++;
    }
    if (byte === 0 || code === 255) {
      out[codeAt] = code;
      codeAt = written++;
      code = 1;
    }
  }
  out[codeAt] = code;
  return out.slice(0, written + 1);
}

/** The payload of an encoded frame without its zero byte, or undefined when it is damaged. */
export function decodeFrame(encoded: Uint8Array): Uint8Array | undefined {
  const plain = new Uint8Array(encoded.length);
  let read = 0, written = 0;
  while (read < encoded.length) {
    const code = encoded[read++]!;
    if (code === 0 || read + code - 1 > encoded.length) return undefined;
    plain.set(encoded.subarray(read, read + code - 1), written);
    read += code - 1;
    written += code - 1;
    if (code !== 255 && read < encoded.length) plain[written++] = 0;
  }
  if (written < 4) return undefined;
  const payload = plain.subarray(0, written - 4);
  const expected = new DataView(plain.buffer).getUint32(written - 4, true);
  return crc32(payload) === expected ? payload : undefined;
}
