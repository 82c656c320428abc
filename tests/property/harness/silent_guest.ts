import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type Frame, FrameSchema } from "@torpor/proto/guest";
import { encodeFrame, FrameDecoder } from "../../../services/hostagent/guest/framing.ts";

type Body = NonNullable<MessageInitShape<typeof FrameSchema>["body"]>;

/** The agent of a guest that has no processes: greets, and says yes to all that a lifecycle operation asks of it. */
export class SilentGuest implements AsyncDisposable {
  readonly #listener: Deno.Listener;
  readonly #serving: Promise<void>;
  #host: Deno.Conn | undefined;

  /** Listens where the VMM's serial port would. */
  constructor(socketPath: string) {
    this.#listener = Deno.listen({ transport: "unix", path: socketPath });
    this.#serving = this.#serve();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    this.#hangUp();
    await this.#serving;
  }

  #hangUp(): void {
    this.#host?.close();
    this.#host = undefined;
  }

  async #serve(): Promise<void> {
    for await (const host of this.#listener) {
      this.#host = host;
      await this.#talk(host);
      this.#hangUp();
    }
  }

  async #talk(host: Deno.Conn): Promise<void> {
    const answers: Uint8Array[] = [];
    const decoder = new FrameDecoder({
      onFrame: (payload) => void answers.push(...answersTo(fromBinary(FrameSchema, payload.slice()))),
      onInvalid: (reason) => {
        throw new Error(`the host sent a frame that was ${reason}`);
      },
    });
    const buffer = new Uint8Array(65_536);
    try {
      for (let count = await host.read(buffer); count !== null; count = await host.read(buffer)) {
        decoder.push(buffer.subarray(0, count));
        for (const bytes of answers.splice(0)) await host.write(bytes);
      }
    } catch (error) {
      // The host hangs up when it ends the VM, this side when the VM ends.
      const ended = [Deno.errors.BrokenPipe, Deno.errors.ConnectionReset, Deno.errors.BadResource];
      if (!ended.some((kind) => error instanceof kind) && !(error instanceof Deno.errors.Interrupted)) throw error;
    }
  }
}

function answersTo({ streamId, body }: Frame): Uint8Array[] {
  if (body.case === "hello") {
    const { epoch, protocolVersion } = body.value;
    const value = { epoch, protocolVersion, agentVersion: "silent", bootId: 7n };
    return [encode(0, { case: "helloReply", value })];
  }
  if (body.case !== "open") return [];
  const event = eventOf(body.value.request.case);
  return [...event ? [encode(streamId, event)] : [], encode(streamId, { case: "end", value: { status: { code: 1 } } })];
}

/** What comes before the end of the stream. */
function eventOf(request: string | undefined): Body | undefined {
  if (request === "wake") return { case: "wakeReport", value: {} };
  if (request === "ping") return { case: "pong", value: {} };
  return undefined;
}

function encode(streamId: number, body: Body): Uint8Array {
  return encodeFrame(toBinary(FrameSchema, create(FrameSchema, { streamId, body })));
}
