import { TorporError } from "@torpor/errors";

/** The guest broke the contract of proto/guest/v1. It ends the whole channel: nothing of that guest can be relied on. */
export function protocolError(what: string, cause?: unknown): TorporError {
  return new TorporError("guest_protocol", `the guest agent broke the protocol: ${what}`, { cause });
}

/** The connection to the guest is gone; whether it carried the request out is unknown. */
export function unreachableError(what: string, cause?: unknown): TorporError {
  return new TorporError("guest_unreachable", what, { cause });
}
