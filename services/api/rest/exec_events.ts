import type { ServerSentEventMessage } from "@std/http";
import type { ExecStreamResponse } from "@torpor/proto/hostagent";

/**
 * The events of a command as server-sent events. They are made as the reader takes them. When `messages` fails the stream
 * fails, which resets the connection: a reader cannot take it for the end of the command.
 * @param left aborted when the reader goes away.
 */
export function execEvents(
  messages: AsyncGenerator<ExecStreamResponse>,
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

function eventOf({ event }: ExecStreamResponse): ServerSentEventMessage | undefined {
  switch (event.case) {
    case "start":
      return message("started", { pid: event.value.pid });
    case "data": {
      const { output, sequence } = event.value;
      if (output.case === undefined) return undefined;
      return message(output.case, { sequence: Number(sequence), data: output.value.toBase64() });
    }
    case "end":
      return message("exited", {
        exit_code: event.value.exitCode,
        signal: event.value.signal,
        timed_out: event.value.timedOut,
      });
    default:
      return undefined;
  }
}

function message(event: string, data: Record<string, unknown>): ServerSentEventMessage {
  return { event, data: JSON.stringify(data) };
}
