import { create } from "@bufbuild/protobuf";
import { WakeSchema } from "@torpor/proto/guest";
import type { GuestRequest } from "./stream_table.ts";

/** What a guest is told when its vCPUs begin to run (again), in this order. What is absent is left out. */
export interface WakeCall {
  /** Tells the time to set the guest's clock to, at the moment of sending, nanoseconds since 1970. */
  unixNs?: () => bigint;
  /** Random bytes for the guest's generator, which reseeds itself. */
  entropy?: Uint8Array;
  /** Makes it another sandbox than it was. */
  identity?: GuestIdentity;
  /** Lets the user's processes go on. */
  thaw: boolean;
}

/** Who a sandbox is. */
export interface GuestIdentity {
  hostname: string;
  /** 32 hexadecimal digits, lower case. */
  machineId: string;
  /** Content of /run/torpor/generation: always of the same length, and never twice the same. */
  generation: string;
}

/** What `GuestChannel.wake` found. */
export interface WakeResult {
  /** How far the guest's clock was behind, whole milliseconds (negative: ahead); 0 when it was not set. */
  behindMs: number;
  /** The user's processes had been frozen. */
  thawed: boolean;
}

/** The message of a {@linkcode WakeCall}, with the time of now. */
export function wakeRequest({ unixNs, entropy, identity, thaw }: WakeCall): GuestRequest {
  return { case: "wake", value: create(WakeSchema, { unixNs: unixNs?.(), entropy, identity, thaw }) };
}
