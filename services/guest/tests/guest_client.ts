/** A client of the agent for tests: one connection, many streams, credit given back at once unless a test holds it. */
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type End, type Frame, FrameSchema, type HelloReply, type OpenSchema, StatusCode } from "@torpor/proto/guest";
import { decodeFrame, encodeFrame } from "./framing.ts";

type Request = NonNullable<MessageInitShape<typeof OpenSchema>["request"]>;
type Body = NonNullable<MessageInitShape<typeof FrameSchema>["body"]>;
const INITIAL_CREDIT = 262_144;
const CHUNK = 65_536;

/** One request. Iterate over its events; `end` is set when the iteration is over. */
export class GuestStream implements AsyncIterable<Frame["body"]> {
  readonly #events: Frame["body"][] = [];
  #wake: (() => void) | undefined;
  #creditWaiters: (() => void)[] = [];
  end: End | undefined;
  sendCredit = INITIAL_CREDIT;
  /** False: received bytes are not given back as credit until {@linkcode grant}. */
  autoCredit = true;

  constructor(readonly client: GuestClient, readonly id: number) {}

  push(body: Frame["body"]): void {
    if (body.case === "credit") {
      this.sendCredit += body.value.bytes;
      this.#creditWaiters.splice(0).forEach((wake) => wake());
      return;
    }
    if (body.case === "end") {
      this.end = body.value;
      this.#creditWaiters.splice(0).forEach((wake) => wake());
    } else {
      this.#events.push(body);
    }
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Frame["body"]> {
    while (true) {
      const event = this.#events.shift();
      if (event) {
        const carriesData = event.case === "processOutput" || event.case === "fileChunk" || event.case === "portChunk";
        const bytes = carriesData ? event.value.data.length : 0;
        if (bytes > 0 && this.autoCredit) await this.grant(bytes);
        yield event;
      } else if (this.end) return;
      else await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }

  /** The next event; throws when the stream has ended. */
  async next(): Promise<Frame["body"]> {
    const { value, done } = await this[Symbol.asyncIterator]().next();
    if (done) throw new Error(`the stream ended: ${this.end?.status?.message}`);
    return value;
  }

  async grant(bytes: number): Promise<void> {
    await this.send({ case: "credit", value: { bytes } });
  }

  async send(body: Body): Promise<void> {
    await this.client.send(this.id, body);
  }

  async cancel(): Promise<void> {
    await this.send({ case: "cancel", value: {} });
  }

  /** Sends bytes as chunks of one kind within the credit, the last with eof. Stops when the stream ends. */
  async sendBytes(kind: "fileChunk" | "stdin" | "portChunk", bytes: Uint8Array): Promise<void> {
    for (let offset = 0; offset === 0 || offset < bytes.length; offset += CHUNK) {
      const data = bytes.subarray(offset, offset + CHUNK);
      while (this.sendCredit < data.length && !this.end) {
        await new Promise<void>((resolve) => this.#creditWaiters.push(resolve));
      }
      if (this.end) return;
      this.sendCredit -= data.length;
      await this.send({ case: kind, value: { data, eof: offset + CHUNK >= bytes.length } });
    }
  }
}

/** What {@linkcode GuestClient.run} returns. */
export interface RunResult {
  pid: number;
  stdout: Uint8Array;
  stderr: Uint8Array;
  exitCode: number;
  signal: number;
  timedOut: boolean;
  end: End;
}

/** The host end of a channel. */
export class GuestClient implements AsyncDisposable {
  readonly #streams = new Map<number, GuestStream>();
  readonly #reading: Promise<void>;
  #nextId = 1;
  #writing: Promise<unknown> = Promise.resolve();
  #hello = Promise.withResolvers<HelloReply>();
  #epoch = 0n;

  constructor(readonly connection: Deno.Conn) {
    this.#reading = this.#readFrames();
  }

  /** Starts a new epoch: streams of the earlier one are forgotten. `repeatMs`: Hello is sent again until answered. */
  async hello({ repeatMs }: { repeatMs?: number } = {}): Promise<HelloReply> {
    this.#epoch = crypto.getRandomValues(new BigUint64Array(1))[0]!;
    this.#hello = Promise.withResolvers();
    this.#streams.clear();
    this.#nextId = 1;
    const send = async () => {
      await this.writeRaw(new Uint8Array(1));
      await this.send(0, { case: "hello", value: { epoch: this.#epoch, protocolVersion: 2 } });
    };
    await send();
    const timer = repeatMs ? setInterval(send, repeatMs) : undefined;
    try {
      return await this.#hello.promise;
    } finally {
      clearInterval(timer);
    }
  }

  async open(request: Request): Promise<GuestStream> {
    const stream = new GuestStream(this, this.#nextId++);
    this.#streams.set(stream.id, stream);
    await this.send(stream.id, { case: "open", value: { request } });
    return stream;
  }

  /** Opens a stream and collects all its events. */
  async call(request: Request): Promise<{ events: Frame["body"][]; end: End }> {
    const stream = await this.open(request);
    const events = await Array.fromAsync(stream);
    return { events, end: stream.end! };
  }

  /** Runs a process to its end. */
  async run(argv: string[], options: Record<string, unknown> = {}, stdin?: Uint8Array): Promise<RunResult> {
    const stream = await this.open({
      case: "startProcess",
      value: { argv, user: "root", stdin: stdin !== undefined, ...options },
    });
    const feeding = stdin ? stream.sendBytes("stdin", stdin) : Promise.resolve();
    const result = await collectRun(stream);
    await feeding;
    return result;
  }

  async send(streamId: number, body: Body): Promise<void> {
    await this.writeRaw(encodeFrame(toBinary(FrameSchema, create(FrameSchema, { streamId, body }))));
  }

  /** Bytes as they are, to damage the stream on purpose. */
  async writeRaw(bytes: Uint8Array): Promise<void> {
    const writing = this.#writing.then(async () => {
      for (let offset = 0; offset < bytes.length;) {
        offset += await this.connection.write(bytes.subarray(offset));
      }
    });
    this.#writing = writing.catch(() => {});
    await writing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.connection.close();
    await this.#reading;
  }

  async #readFrames(): Promise<void> {
    let pending = new Uint8Array();
    const buffer = new Uint8Array(256 * 1024);
    while (true) {
      let got: number | null;
      try {
        got = await this.connection.read(buffer);
      } catch {
        return; // Closed by the test.
      }
      if (got === null) return;
      const bytes = new Uint8Array(pending.length + got);
      bytes.set(pending);
      bytes.set(buffer.subarray(0, got), pending.length);
      let start = 0;
      for (let zero = bytes.indexOf(0); zero >= 0; zero = bytes.indexOf(0, start)) {
        this.#receive(bytes.subarray(start, zero));
        start = zero + 1;
      }
      pending = bytes.slice(start);
    }
  }

  #receive(encoded: Uint8Array): void {
    const payload = encoded.length > 0 ? decodeFrame(encoded) : undefined;
    if (!payload) return;
    const frame = fromBinary(FrameSchema, payload);
    if (frame.body.case === "helloReply") {
      if (frame.body.value.epoch === this.#epoch) this.#hello.resolve(frame.body.value);
    } else {
      this.#streams.get(frame.streamId)?.push(frame.body);
    }
  }
}

/** Collects a process stream to its end. */
export async function collectRun(stream: GuestStream): Promise<RunResult> {
  const outputs: [Uint8Array[], Uint8Array[]] = [[], []];
  const result = { pid: 0, exitCode: -1, signal: 0, timedOut: false };
  for await (const event of stream) {
    if (event.case === "processStarted") result.pid = event.value.pid;
    if (event.case === "processOutput") outputs[event.value.stream - 1]!.push(event.value.data);
    if (event.case === "processExited") Object.assign(result, event.value);
  }
  const [stdout, stderr] = outputs.map(concat) as [Uint8Array, Uint8Array];
  return { ...result, stdout, stderr, end: stream.end! };
}

/** All parts in one array. */
export function concat(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}

/** True when the request ended well. */
export const succeeded = (end: End): boolean => end.status?.code === StatusCode.OK;
