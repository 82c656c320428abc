import { z } from "@hono/zod-openapi";
import { type ServerSentEventMessage, ServerSentEventStream } from "@std/http";

/** A stream of events in the description of a route. */
export const eventsAnswer = { description: "Events.", content: { "text/event-stream": { schema: z.string() } } };

/**
 * Answers with server-sent events.
 * @param open gives what they tell of; its signal aborts when the client goes away.
 * @param eventOf the event that tells of one of them; undefined: none does.
 */
export async function answerEventStream<T>(
  request: Request,
  open: (signal: AbortSignal) => Promise<AsyncGenerator<T>>,
  eventOf: (one: T) => ServerSentEventMessage | undefined,
): Promise<Response> {
  const left = new AbortController();
  const messages = await open(AbortSignal.any([request.signal, left.signal]));
  return new Response(eventStream(messages, eventOf, left).pipeThrough(new ServerSentEventStream()), {
    headers: { "content-type": "text/event-stream", "cache-control": "no-store", "x-accel-buffering": "no" },
  });
}

/**
 * They are made as the reader takes them. When `messages` fails the stream fails, which resets the connection: a reader
 * cannot take it for the end.
 * @param left aborted when the reader goes away.
 */
export function eventStream<T>(
  messages: AsyncGenerator<T>,
  eventOf: (one: T) => ServerSentEventMessage | undefined,
  left: AbortController,
): ReadableStream<ServerSentEventMessage> {
  return new ReadableStream<ServerSentEventMessage>({
    async pull(controller) {
      const next = await messages.next();
      if (next.done) return controller.close();
      const event = eventOf(next.value);
      if (event) controller.enqueue(event);
    },
    cancel() {
      // The generator may be waiting for the host: only the abort wakes it.
      left.abort();
    },
  }, { highWaterMark: 0 });
}
