import { type Database, insertSpans } from "@torpor/db";
import { continueTrace } from "@torpor/telemetry";
import { readExport } from "../otlp/read_export.ts";
import { exportRequest } from "./otlp_json.ts";
import { spansOf } from "./spans_of.ts";

/** A parent that is not sampled: what runs under it makes no spans, so that storing spans does not make more of them. */
const UNSAMPLED = "00-11111111111111111111111111111111-2222222222222222-00";

/** Options of {@linkcode receiveTraces}. */
export interface ReceiverOptions {
  database: Database;
  /** Exporters send it as `authorization: Bearer …`. */
  internalToken: string;
  /** How many traces are kept. */
  retention: number;
}

/**
 * Answers `POST /otlp/v1/traces`: stores the spans of an OTLP/HTTP export in JSON.
 * @throws TorporError `unauthenticated`, `unsupported_media_type` (protobuf), `payload_too_large`, `invalid_argument`.
 */
export async function receiveTraces(request: Request, options: ReceiverOptions): Promise<Response> {
  return await continueTrace(UNSAMPLED, async () => {
    const spans = spansOf(await readExport(request, options.internalToken, exportRequest));
    await insertSpans(options.database, spans, options.retention);
    return Response.json({});
  });
}
