import type { ServerSentEventMessage } from "@std/http";
import type { ProcessMessage } from "../handlers/exec.ts";
import { answerEventStream, eventStream } from "./event_stream.ts";
import { isoTime } from "./views/time.ts";

/** What the description of a route says about its events. */
export const PROCESS_EVENTS =
  "Server-sent events, each with JSON data: `started` {pid, started_at}, `stdout` and `stderr` {sequence, data} with data " +
  "in base64, `gap` {first_lost_sequence, last_lost_sequence, lost_bytes} for output that is no longer kept, and last " +
  "`exited` {exit_code, signal, timed_out}, or `paused` when the sandbox is paused: the command goes on when it is resumed. " +
  "A stream that ends without one of these broke off. The command goes on when the client leaves; " +
  "GET …/processes/{pid}/events goes on after the last `sequence`, which is the event's id as well.";

/** Answers with the events of a process. @param open gives them; its signal aborts when the client goes away. */
export function answerEvents(
  request: Request,
  open: (signal: AbortSignal) => Promise<AsyncGenerator<ProcessMessage>>,
): Promise<Response> {
  return answerEventStream(request, open, eventOf);
}

/** The events of a command as server-sent events; see {@linkcode eventStream}. */
export function execEvents(
  messages: AsyncGenerator<ProcessMessage>,
  left: AbortController,
): ReadableStream<ServerSentEventMessage> {
  return eventStream(messages, eventOf, left);
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
