import { type Database, insertSpans } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { bearerToken, tokensEqual } from "@torpor/rpc";
import { continueTrace } from "@torpor/telemetry";
import { parseInput } from "../inputs/parse.ts";
import { readCapped } from "../rest/body_limit.ts";
import { exportRequest } from "./otlp_json.ts";
import { spansOf } from "./spans_of.ts";

/** An exporter's batch: Deno sends at most 512 spans, a few hundred KiB. */
const MAX_BODY_BYTES = 16 * 1024 * 1024;

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
    if (!tokensEqual(bearerToken(request.headers), options.internalToken)) {
      throw new TorporError("unauthenticated", "missing or wrong internal token");
    }
    const mediaType = (request.headers.get("content-type") ?? "").split(";")[0]!.trim().toLowerCase();
    if (mediaType !== "application/json") {
      throw new TorporError("unsupported_media_type", "spans are received as application/json only", {
        hint: "set OTEL_EXPORTER_OTLP_PROTOCOL=http/json",
      });
    }
    const spans = spansOf(parseInput(exportRequest, parseJson(await readCapped(request, MAX_BODY_BYTES))));
    await insertSpans(options.database, spans, options.retention);
    return Response.json({});
  });
}

function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch (thrown) {
    throw new TorporError("invalid_argument", "the body is not valid JSON", { field: "body", cause: thrown });
  }
}
