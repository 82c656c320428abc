// The host end of the guest channel: one connection per running VM to the agent inside, many requests over it.
//
//   open_channel.ts   connects, and wakes a guest with the same message  wake.ts
//   channel.ts        GuestChannel: a method per request                 calls.ts, process_stream.ts, file_transfer.ts
//   stream_table.ts   ids, and which frame belongs to which stream
//   stream.ts         one request: queue, credit in both directions, end  stream_rules.ts, event_queue.ts
//   connection.ts     the greeting, then frames                           frame_writer.ts, liveness.ts
//   framing.ts        COBS and CRC-32 over the byte stream
//
// The guest is hostile: what breaks the contract of proto/guest/v1 closes the channel (`guest_protocol`), memory is bounded
// by the credit and the limits in limits.ts, and numbers and texts of the guest are checked before they are passed on.
export type { AttachOptions, CallOptions, FileOptions, PauseSteps, ProcessSpec } from "./calls.ts";
export { GuestChannel } from "./channel.ts";
export type { OpenedFile } from "./file_transfer.ts";
export { openAndWake, openGuestChannel } from "./open_channel.ts";
export { type ProcessEvent, ProcessStream } from "./process_stream.ts";
export { GuestStatusError } from "./status.ts";
export type { GuestIdentity, WakeCall, WakeResult } from "./wake.ts";
