// The modules of @std/http that npm carries and this project uses. Where JSR can be reached, delete this folder.
export * from "./server_sent_event_stream.ts";
export * from "./status.ts";
