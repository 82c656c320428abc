import { ConnectError, type Interceptor } from "@connectrpc/connect";
import { asTorporError } from "@torpor/errors";
import { measure } from "@torpor/telemetry";
import { fromConnectError } from "./call_error.ts";

/** Measures each call until its end: that of a stream is its last message, or that its client leaves. */
export const measureCalls: Interceptor = (next) => async (request) => {
  const method = `${request.service.typeName}/${request.method.name}`;
  const began = performance.now();
  const end = (outcome: string) =>
    measure("torpor.rpc.duration", (performance.now() - began) / 1000, {
      "rpc.method": method,
      "torpor.outcome": outcome,
    });
  try {
    const response = await next(request);
    if (response.stream) return { ...response, message: untilEnd(response.message, end) };
    end("ok");
    return response;
  } catch (thrown) {
    end(codeOf(thrown));
    throw thrown;
  }
};

async function* untilEnd<T>(messages: AsyncIterable<T>, end: (outcome: string) => void): AsyncIterable<T> {
  let outcome = "canceled";
  try {
    yield* messages;
    outcome = "ok";
  } catch (thrown) {
    outcome = codeOf(thrown);
    throw thrown;
  } finally {
    end(outcome);
  }
}

/** The library throws errors of its own, for messages that it cannot read. */
function codeOf(thrown: unknown): string {
  return (thrown instanceof ConnectError ? fromConnectError(thrown) : asTorporError(thrown)).code;
}
