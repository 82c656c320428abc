// The host end of the guest channel: one connection per running VM to the agent inside, many requests over it.
export * from "./channel.ts";
export type { OpenedFile } from "./file_transfer.ts";
export { type ProcessEvent, ProcessStream } from "./process_stream.ts";
export { GuestStatusError } from "./status.ts";
