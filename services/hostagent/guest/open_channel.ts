import { create } from "@bufbuild/protobuf";
import { FrameSchema, OpenSchema } from "@torpor/proto/guest";
import { GuestChannel } from "./channel.ts";
import { GuestConnection } from "./connection.ts";
import { EARLY_STREAM_ID } from "./stream_table.ts";
import { type WakeCall, wakeRequest, type WakeResult } from "./wake.ts";

/**
 * Connects to the agent of one running guest.
 * @param options.socketPath unix socket of the VMM's serial port; it may not exist yet.
 * @param options.signal gives up waiting; the guest may still boot, so without it this waits for ever.
 * @throws TorporError `guest_unreachable` when aborted (or the signal's own TorporError), `guest_protocol`.
 */
export async function openGuestChannel(options: { socketPath: string; signal: AbortSignal }): Promise<GuestChannel> {
  const { connection, hello } = await GuestConnection.open(options.socketPath, options.signal);
  return new GuestChannel(connection, hello);
}

/**
 * Connects to the agent of a guest whose vCPUs have just begun to run, and wakes it with the same message: the answer costs
 * no second round trip. A guest that still boots may be woken more than once.
 * @throws TorporError as {@linkcode openGuestChannel} and {@linkcode GuestChannel.wake}.
 */
export async function openAndWake(
  options: { socketPath: string; signal: AbortSignal },
  call: WakeCall,
): Promise<{ channel: GuestChannel; woken: WakeResult }> {
  let sentUnixMs = 0;
  const early = () => {
    sentUnixMs = performance.timeOrigin + performance.now();
    const value = create(OpenSchema, { request: wakeRequest(call) });
    return create(FrameSchema, { streamId: EARLY_STREAM_ID, body: { case: "open", value } });
  };
  const { connection, hello } = await GuestConnection.open(options.socketPath, options.signal, early);
  const channel = new GuestChannel(connection, hello, { call, sentUnixMs });
  try {
    return { channel, woken: await channel.woken! };
  } catch (error) {
    await channel[Symbol.asyncDispose]();
    throw error;
  }
}
