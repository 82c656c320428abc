import type { Interceptor } from "@connectrpc/connect";
import { measure } from "@torpor/telemetry";
import { fromConnectError } from "./errors.ts";

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
    end(fromConnectError(thrown).code);
    throw thrown;
  }
};

async function* untilEnd<T>(messages: AsyncIterable<T>, end: (outcome: string) => void): AsyncIterable<T> {
  let outcome = "canceled";
  try {
    yield* messages;
    outcome = "ok";
  } catch (thrown) {
    outcome = fromConnectError(thrown).code;
    throw thrown;
  } finally {
    end(outcome);
  }
}
