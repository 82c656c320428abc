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
 * @param cancelled called when its reader does not want the rest.
 */
export function pacedBody(
  incoming: IncomingMessage,
  beneath: Socket | undefined,
  failure: (thrown: unknown) => unknown,
  ended: () => void = () => {},
  cancelled: () => void = () => {},
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
      if (close()) cancelled();
    },
  }, new ByteLengthQueuingStrategy({ highWaterMark: WAITING_BYTES }));
}

/**
 * Lets a connection read, or stops it. The TLS socket above has taken the connection's handle over, so that the streams'
 * own pause() and resume() no longer reach it; the handle has no public name.
 */
function flow(socket: Socket | undefined, reading: boolean): void {
  if (!socket || socket.destroyed || stopped.has(socket) !== reading) return;
  const { _handle: handle } = socket as unknown as { _handle?: { readStart(): number; readStop(): number } };
  if (reading) {
    stopped.delete(socket);
    handle?.readStart();
  } else {
    stopped.add(socket);
    handle?.readStop();
  }
}

/** Connections that do not read at the moment. */
const stopped = new WeakSet<Socket>();
