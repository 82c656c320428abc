import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { encodeFrame, FrameDecoder } from "./framing.ts";
import { MAX_FRAME_BYTES } from "./limits.ts";

/** Decodes a byte stream given in pieces. */
function decode(pieces: Iterable<Uint8Array>): { frames: Uint8Array[]; invalid: string[] } {
  const frames: Uint8Array[] = [];
  const invalid: string[] = [];
  const decoder = new FrameDecoder({
    onFrame: (payload) => frames.push(payload.slice()),
    onInvalid: (reason) => invalid.push(reason),
  });
  for (const piece of pieces) decoder.push(piece);
  return { frames, invalid };
}

function concatenate(parts: Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function cut(bytes: Uint8Array, at: number[]): Uint8Array[] {
  const borders = [0, ...at.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return borders.slice(1).map((end, i) => bytes.subarray(borders[i]!, end));
}

// Few distinct bytes, many of them zero: runs of every length around 254.
const payload = fc.oneof(
  fc.uint8Array({ maxLength: 600 }),
  fc.array(fc.constantFrom(0, 1, 255), { maxLength: 600 }).map((bytes) => Uint8Array.from(bytes)),
  fc.tuple(fc.integer({ min: 250, max: 260 }), fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 520 })).map(
    ([run, zeros, tail]) =>
      concatenate([new Uint8Array(run).fill(7), new Uint8Array(zeros), new Uint8Array(tail).fill(9)]),
  ),
);
const cuts = fc.array(fc.nat(), { maxLength: 20 });

Deno.test("frames survive any cut of the stream", () => {
  fc.assert(fc.property(fc.array(payload, { maxLength: 8 }), cuts, (payloads, at) => {
    const stream = concatenate(payloads.map(encodeFrame));
    assertEquals(decode(cut(stream, at)), { frames: payloads, invalid: [] });
  }));
});

Deno.test("an encoded frame has one zero byte, its last, and COBS's least overhead", () => {
  fc.assert(fc.property(payload, (bytes) => {
    const encoded = encodeFrame(bytes);
    assertEquals(encoded.indexOf(0), encoded.length - 1);
    assert(encoded.length <= bytes.length + 4 + Math.ceil((bytes.length + 4) / 254) + 1);
  }));
});

Deno.test("garbage between frames costs at most the frame that it touches", () => {
  const garbage = fc.uint8Array({ minLength: 1, maxLength: 400 });
  fc.assert(fc.property(payload, garbage, payload, cuts, (first, noise, second, at) => {
    // The zero byte is what a host end sends first.
    const stream = concatenate([encodeFrame(first), noise, new Uint8Array(1), encodeFrame(second)]);
    const { frames } = decode(cut(stream, at));
    assertEquals([frames[0], frames.at(-1)], [first, second]);
  }));
});

Deno.test("a damaged frame is reported, never delivered", () => {
  const damage = fc.tuple(fc.nat(), fc.integer({ min: 1, max: 255 }));
  fc.assert(fc.property(payload, damage, (bytes, [place, flip]) => {
    const encoded = encodeFrame(bytes);
    encoded[place % (encoded.length - 1)]! ^= flip;
    const { frames, invalid } = decode([encoded]);
    // Four zero bytes are a whole frame of no bytes; a cut may leave them.
    assertEquals(frames.filter((frame) => frame.length > 0), []);
    assert(invalid.length > 0);
  }));
});

Deno.test("the longest frame passes, a longer one is dropped and the next one found", () => {
  for (const fill of [0, 1]) {
    const longest = new Uint8Array(MAX_FRAME_BYTES).fill(fill);
    assertEquals(decode([encodeFrame(longest)]).frames, [longest]);
    // One byte more, by hand: encodeFrame refuses it.
    assertThrows(() => encodeFrame(new Uint8Array(MAX_FRAME_BYTES + 1)), RangeError);
    const endless = new Uint8Array(3 * MAX_FRAME_BYTES).fill(255);
    const { frames, invalid } = decode([endless, new Uint8Array(1), encodeFrame(longest)]);
    assertEquals([frames.length, invalid], [1, ["too large"]]);
  }
});

Deno.test("zero bytes between frames mean nothing", () => {
  const frame = encodeFrame(new Uint8Array([1, 2]));
  const { frames, invalid } = decode([new Uint8Array(5), frame, new Uint8Array(5), frame]);
  assertEquals([frames.length, invalid], [2, []]);
});

Deno.test("the format is the one of guest.proto", () => {
  // CRC-32 of "123456789" is 0xcbf43926; the bytes around zero are COBS's textbook example.
  const encoded = encodeFrame(new TextEncoder().encode("123456789"));
  assertEquals([...encoded.subarray(-5)], [0x26, 0x39, 0xf4, 0xcb, 0]);
  assertEquals([...encodeFrame(new Uint8Array([0x11, 0x22, 0, 0x33])).subarray(0, 5)], [3, 0x11, 0x22, 6, 0x33]);
});
