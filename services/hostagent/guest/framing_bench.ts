// Bytes per second of framing and unframing, and of a whole frame with protobuf:
//   deno bench -A services/hostagent/guest/framing_bench.ts
// One iteration is 64 MB (1,000 chunks of 64,000 bytes).
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileChunkSchema, FrameSchema } from "@torpor/proto/guest";
import { encodeFrame, FrameDecoder } from "./framing.ts";

const CHUNK_BYTES = 64_000;
const CHUNKS = 1000;

const random = crypto.getRandomValues(new Uint8Array(CHUNK_BYTES));
for (const [name, data] of Object.entries({ random, zeros: new Uint8Array(CHUNK_BYTES) })) {
  const encoded = encodeFrame(data);
  const decoder = new FrameDecoder({ onFrame() {}, onInvalid: fail });
  Deno.bench({ name: `encode 64 MB of ${name}`, fn: () => repeat(() => encodeFrame(data)) });
  Deno.bench({ name: `decode 64 MB of ${name}`, fn: () => repeat(() => decoder.push(encoded)) });

  const frame = create(FrameSchema, {
    streamId: 1,
    body: { case: "fileChunk", value: create(FileChunkSchema, { data }) },
  });
  const encodedMessage = encodeFrame(toBinary(FrameSchema, frame));
  const parser = new FrameDecoder({ onFrame: (payload) => void fromBinary(FrameSchema, payload), onInvalid: fail });
  Deno.bench({ name: `send 64 MB of ${name}`, fn: () => repeat(() => encodeFrame(toBinary(FrameSchema, frame))) });
  Deno.bench({ name: `receive 64 MB of ${name}`, fn: () => repeat(() => parser.push(encodedMessage)) });
}

function repeat(work: () => void): void {
  for (let i = 0; i < CHUNKS; i++) work();
}

function fail(reason: string): never {
  throw new Error(reason);
}
