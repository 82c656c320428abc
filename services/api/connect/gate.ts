import { createContextKey, type HandlerContext } from "@connectrpc/connect";
import { TorporError } from "@torpor/errors";
import { REMOTE_ADDRESS, toConnectError } from "@torpor/rpc";
import { currentTraceId } from "@torpor/telemetry";
import type { Admission, Admitted } from "../keys/admission.ts";
import type { Caller } from "../keys/caller.ts";

const admittedKey = createContextKey<Admitted | undefined>(undefined, { description: "the call that was let in" });

/**
 * Options of every public ConnectRPC service. The gate decides before the first byte of a request's body is read, so that
 * a stranger can make the service buffer nothing.
 * @param maxRequestBytes the largest request message.
 */
export function gateOptions(admission: Admission, maxRequestBytes: number) {
  return {
    readMaxBytes: maxRequestBytes,
    requestGate: async (context: HandlerContext) => {
      const traceId = currentTraceId();
      if (traceId !== undefined) context.responseHeader.set("x-trace-id", traceId);
      try {
        const admitted = await admission.admit({
          headers: context.requestHeader,
          call: callName(context),
          target: "",
          address: context.values.get(REMOTE_ADDRESS),
        });
        context.responseHeader.set("x-request-id", admitted.caller.call.requestId);
        context.values.set(admittedKey, admitted);
      } catch (thrown) {
        throw toConnectError(thrown);
      }
    },
  };
}

/** A method in the tables of access.ts. */
export function callName({ service, method }: Pick<HandlerContext, "service" | "method">): string {
  return `${service.typeName.split(".").at(-1)}/${method.name}`;
}

/** The call that the gate has let in. */
export function admittedOf(context: HandlerContext): Admitted {
  const admitted = context.values.get(admittedKey);
  if (!admitted) throw new TorporError("unauthenticated", "the call did not pass the gate");
  return admitted;
}

/** Who makes the call that the gate has let in. */
export function callerOf(context: HandlerContext): Caller {
  return admittedOf(context).caller;
}
