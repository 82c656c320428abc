import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";

/** How many bytes of a body wait for their reader before the other side is stopped. */
const WAITING_BYTES = 256 * 1024;

/**
 * The body of a message that came over TLS, read as fast as its reader reads. Deno 2.9.6 goes on reading from the network
 * while a TLS socket is paused, so that whatever the other side sends piles up here; the TCP connection beneath it does
 * stop. Test: "bodies stream both ways without piling up".
 * @param beneath the TCP connection of the message.
 * @param failure makes the error of a body that breaks off.
 * @param ended called once, when the body has ended in whatever way.
 */
export function pacedBody(
  incoming: IncomingMessage,
  beneath: Socket | undefined,
  failure: (thrown: unknown) => unknown,
  ended: () => void = () => {},
): ReadableStream<Uint8Array<ArrayBuffer>> {
  let open = true;
  const close = (): boolean => {
    const first = open;
    open = false;
    flow(beneath, true);
    if (first) ended();
    return first;
  };
  return new ReadableStream<Uint8Array<ArrayBuffer>>({
    start(controller) {
      incoming.on("data", (chunk: Uint8Array<ArrayBuffer>) => {
        if (!open) return;
        controller.enqueue(new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength));
        if ((controller.desiredSize ?? 0) <= 0) flow(beneath, false);
      });
      incoming.on("end", () => close() && controller.close());
      incoming.on("error", (error) => close() && controller.error(failure(error)));
      incoming.on("close", () => close() && controller.error(failure(new Error("the connection was closed"))));
    },
    pull: () => flow(beneath, true),
    cancel: () => {
      close();
    },
  }, new ByteLengthQueuingStrategy({ highWaterMark: WAITING_BYTES }));
}

/** Lets a connection read, or stops it. A socket that nobody has let flow yet cannot be paused. */
function flow(socket: Socket | undefined, reading: boolean): void {
  if (!socket || socket.destroyed) return;
  if (socket.isPaused() || !reading) socket.resume();
  if (!reading) socket.pause();
}
