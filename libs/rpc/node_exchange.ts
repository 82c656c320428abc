import type { IncomingMessage, ServerResponse } from "node:http";
import type { Writable } from "node:stream";
import { continueTrace, log, withSpan } from "@torpor/telemetry";

/** What servers on node:http and node:https have in common: one request and its answer. */
export interface Exchange {
  incoming: IncomingMessage;
  outgoing: ServerResponse;
}

/**
 * Answers a request inside of its trace; `work` gets a signal that is aborted when the client has gone. Never throws: what
 * `work` throws breaks the answer off.
 */
export async function answerExchange(
  { incoming, outgoing }: Exchange,
  work: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const gone = new AbortController();
  outgoing.on("close", () => outgoing.writableFinished || gone.abort());
  // Errors of a connection are its end, which the line above and the reader of the body see.
  incoming.on("error", () => {});
  outgoing.on("error", () => {});
  const traceparent = incoming.headers.traceparent;
  try {
    await continueTrace(
      typeof traceparent === "string" ? traceparent : "",
      () => withSpan(incoming.method ?? "", {}, () => work(gone.signal)),
    );
  } catch (thrown) {
    if (!gone.signal.aborted) log("warn", "answer_broke_off", {}, thrown);
    outgoing.destroy();
  }
}

/** The headers of a message as they came, repeated ones too. */
export function headersOf({ rawHeaders }: IncomingMessage): Headers {
  const headers = new Headers();
  for (let i = 0; i < rawHeaders.length; i += 2) headers.append(rawHeaders[i]!, rawHeaders[i + 1]!);
  return headers;
}

/** Sends an answer as its body comes, and no faster than the client takes it. */
export async function sendStreamed(response: Response, outgoing: ServerResponse, signal: AbortSignal): Promise<void> {
  outgoing.writeHead(response.status, [...response.headers].flat());
  // Deno 2.9.6 ends an empty body whose head was sent before with bytes that the next answer's reader stumbles over. Test:
  // "an empty answer leaves the connection in order".
  if (response.body && response.headers.get("content-length") !== "0") outgoing.flushHeaders();
  const reader = response.body?.getReader();
  const onGone = () => void reader?.cancel(signal.reason).catch(() => {});
  if (signal.aborted) onGone();
  signal.addEventListener("abort", onGone, { once: true });
  for (let next = await reader?.read(); next && !next.done; next = await reader!.read()) {
    if (!outgoing.write(next.value)) await drained(outgoing);
  }
  outgoing.end();
}

/** Resolves when more can be written, or never again. */
export function drained(outgoing: Writable): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const done = () => {
    outgoing.off("drain", done).off("close", done);
    resolve();
  };
  outgoing.on("drain", done).on("close", done);
  return promise;
}
