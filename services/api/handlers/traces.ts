import { getTraceSpans, listTraces as queryTraces, type SpanRow, type TraceRow } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import type { Caller } from "../keys/caller.ts";
import type { Api } from "./api.ts";
import { ownSandbox } from "./running_sandbox.ts";

/**
 * All spans of a trace that have arrived, by start.
 * @param traceId 32 hexadecimal digits.
 * @throws TorporError `trace_not_found`, also for one that another team has part in.
 */
export async function getTrace(api: Api, caller: Caller, traceId: string): Promise<SpanRow[]> {
  const spans = await getTraceSpans(api.database.sql, traceId, visibleTo(caller));
  if (spans.length === 0) {
    throw new TorporError("trace_not_found", `no span of trace ${traceId} has arrived`, {
      hint: "spans arrive up to a second after their end; older traces are forgotten",
    });
  }
  return spans;
}

/**
 * The newest traces that the caller may see, of one sandbox when its id is given.
 * @throws TorporError `sandbox_not_found`.
 */
export async function listTraces(
  api: Api,
  caller: Caller,
  filter: { sandboxId: string | undefined; limit: number },
): Promise<TraceRow[]> {
  if (filter.sandboxId !== undefined) await ownSandbox(api, caller, filter.sandboxId, { deleted: true });
  return await queryTraces(api.database.sql, { ...filter, teamId: visibleTo(caller) });
}

/** The administrator sees all traces. */
function visibleTo({ admin, teamId }: Caller): string | undefined {
  return admin ? undefined : teamId;
}
