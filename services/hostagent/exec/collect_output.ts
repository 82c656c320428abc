import { TorporError } from "@torpor/errors";
import { ByteCollector } from "../guest/byte_collector.ts";
import type { ProcessEvent, ProcessStream } from "../guest/mod.ts";
import { protocolError } from "../guest/protocol_error.ts";

/** All that a process wrote, and how it ended. */
export interface CollectedOutput {
  stdout: Uint8Array;
  stderr: Uint8Array;
  exited: Extract<ProcessEvent, { type: "exited" }>;
}

/**
 * Reads a process to its end.
 * @param limitBytes most bytes on each of stdout and stderr.
 * @throws TorporError `output_too_large`; the process still runs then.
 */
export async function collectOutput(process: ProcessStream, limitBytes: number): Promise<CollectedOutput> {
  const collected = { stdout: new ByteCollector(limitBytes), stderr: new ByteCollector(limitBytes) };
  for await (const event of process) {
    if (event.type === "output") {
      if (!collected[event.stream].add(event.data)) throw tooLarge(event.stream, limitBytes);
    } else if (event.type === "gap") {
      // The guest holds a process back while its starter lags, so nothing may be missing here.
      throw protocolError("output of a followed process was lost");
    } else {
      return { stdout: collected.stdout.join(), stderr: collected.stderr.join(), exited: event };
    }
  }
  throw protocolError("a process ended without its exit status");
}

function tooLarge(stream: string, limitBytes: number): TorporError {
  return new TorporError("output_too_large", `the command wrote more than ${limitBytes} bytes to ${stream}`, {
    hint: "stream the output, or redirect it to a file",
  });
}
