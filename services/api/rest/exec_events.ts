import { z } from "@hono/zod-openapi";
import { type ServerSentEventMessage, ServerSentEventStream } from "@std/http";
import type { ProcessMessage } from "../handlers/exec.ts";
import { isoTime } from "./views/time.ts";

/** What the description of a route says about its events. */
export const PROCESS_EVENTS =
  "Server-sent events, each with JSON data: `started` {pid, started_at}, `stdout` and `stderr` {sequence, data} with data " +
  "in base64, `gap` {first_lost_sequence, last_lost_sequence, lost_bytes} for output that is no longer kept, and last " +
  "`exited` {exit_code, signal, timed_out}, or `paused` when the sandbox is paused: the command goes on when it is resumed. " +
  "A stream that ends without one of these broke off. The command goes on when the client leaves; " +
  "GET …/processes/{pid}/events goes on after the last `sequence`, which is the event's id as well.";

/** A stream of events in the description of a route. */
export const eventsAnswer = { description: "Events.", content: { "text/event-stream": { schema: z.string() } } };

/**
 * Answers with the events of a process.
 * @param open gives them; its signal aborts when the client goes away.
 */
export async function answerEvents(
  request: Request,
  open: (signal: AbortSignal) => Promise<AsyncGenerator<ProcessMessage>>,
): Promise<Response> {
  const left = new AbortController();
  const messages = await open(AbortSignal.any([request.signal, left.signal]));
  return new Response(execEvents(messages, left).pipeThrough(new ServerSentEventStream()), {
    headers: { "content-type": "text/event-stream", "cache-control": "no-store", "x-accel-buffering": "no" },
  });
}

/**
 * The events of a command as server-sent events. They are made as the reader takes them. When `messages` fails the stream
 * fails, which resets the connection: a reader cannot take it for the end of the command.
 * @param left aborted when the reader goes away.
 */
export function execEvents(
  messages: AsyncGenerator<ProcessMessage>,
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

function eventOf({ event }: ProcessMessage): ServerSentEventMessage | undefined {
  switch (event.case) {
    case "start": {
      const { pid, startedAtUnixMs } = event.value;
      return message("started", { pid, started_at: startedAtUnixMs === 0n ? null : isoTime(startedAtUnixMs) });
    }
    case "data": {
      const { output, sequence } = event.value;
      if (output.case === undefined) return undefined;
      return message(output.case, { sequence: Number(sequence), data: output.value.toBase64() }, sequence);
    }
    case "gap": {
      const { firstLostSequence, lastLostSequence, lostBytes } = event.value;
      return message("gap", {
        first_lost_sequence: Number(firstLostSequence),
        last_lost_sequence: Number(lastLostSequence),
        lost_bytes: Number(lostBytes),
      }, lastLostSequence);
    }
    case "end":
      return message("exited", {
        exit_code: event.value.exitCode,
        signal: event.value.signal,
        timed_out: event.value.timedOut,
      });
    case "paused":
      return message("paused", {});
    default:
      return undefined;
  }
}

function message(event: string, data: Record<string, unknown>, sequence?: bigint): ServerSentEventMessage {
  const id = sequence === undefined ? {} : { id: String(sequence) };
  return { event, ...id, data: JSON.stringify(data) };
}
