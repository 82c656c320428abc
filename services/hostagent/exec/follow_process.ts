import type { MessageInitShape } from "@bufbuild/protobuf";
import { asTorporError } from "@torpor/errors";
import type { ExecStreamResponseSchema } from "@torpor/proto/hostagent";
import type { ProcessEvent, ProcessStream } from "../guest/mod.ts";
import { exitStatus } from "./exit_status.ts";

/** The events that ExecStream and AttachProcess share. */
export type FollowedEvent = NonNullable<MessageInitShape<typeof ExecStreamResponseSchema>["event"]>;

/**
 * A process as its followers see it: `start`, `data` and `gap`, and last `end`, or `paused` when its sandbox is paused.
 * @throws TorporError `guest_unreachable` and what else ends the stream before the process.
 */
export async function* followProcess(process: ProcessStream): AsyncGenerator<FollowedEvent> {
  yield { case: "start", value: { pid: process.pid, startedAtUnixMs: process.startedUnixMs } };
  try {
    for await (const event of process) yield followedEvent(event);
  } catch (thrown) {
    if (asTorporError(thrown).code !== "sandbox_paused") throw thrown;
    yield { case: "paused", value: {} };
  }
}

function followedEvent(event: ProcessEvent): FollowedEvent {
  switch (event.type) {
    case "output":
      return { case: "data", value: { output: { case: event.stream, value: event.data }, sequence: event.sequence } };
    case "gap": {
      const { firstLostSequence, lastLostSequence, lostBytes } = event;
      return { case: "gap", value: { firstLostSequence, lastLostSequence, lostBytes } };
    }
    case "exited": {
      const error = event.timedOut ? "the command was killed at its timeout" : "";
      return { case: "end", value: { ...exitStatus(event), error } };
    }
  }
}
