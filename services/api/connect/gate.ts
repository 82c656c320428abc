import { createContextKey, type HandlerContext } from "@connectrpc/connect";
import { TorporError } from "@torpor/errors";
import { toConnectError } from "@torpor/rpc";
import { currentTraceId } from "@torpor/telemetry";
import type { Authenticator } from "../keys/authenticate.ts";
import type { Caller } from "../keys/caller.ts";

const callerKey = createContextKey<Caller | undefined>(undefined, { description: "who calls" });

/**
 * Options of every public ConnectRPC service. The gate authenticates before the first byte of a request's body is read,
 * so that a stranger can make the service buffer nothing.
 * @param maxRequestBytes the largest request message.
 */
export function gateOptions(authenticator: Authenticator, maxRequestBytes: number) {
  return {
    readMaxBytes: maxRequestBytes,
    requestGate: async (context: HandlerContext) => {
      const traceId = currentTraceId();
      if (traceId !== undefined) context.responseHeader.set("x-trace-id", traceId);
      try {
        context.values.set(callerKey, await authenticator.authenticate(context.requestHeader));
      } catch (thrown) {
        throw toConnectError(thrown);
      }
    },
  };
}

/** The caller that the gate has let in. */
export function callerOf(context: HandlerContext): Caller {
  const caller = context.values.get(callerKey);
  if (!caller) throw new TorporError("unauthenticated", "the call did not pass the gate");
  return caller;
}
