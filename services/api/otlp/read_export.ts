import { TorporError } from "@torpor/errors";
import { bearerToken, tokensEqual } from "@torpor/rpc";
import type { z } from "zod";
import { parseInput } from "../inputs/parse.ts";
import { readCapped } from "../rest/body_limit.ts";

/** An exporter's batch: Deno sends at most 512 spans, a few hundred KiB; all metrics of a process are fewer. */
const MAX_BODY_BYTES = 16 * 1024 * 1024;

/** @throws TorporError `unauthenticated` without the internal token. */
export function requireInternalToken({ headers }: Request, internalToken: string): void {
  if (tokensEqual(bearerToken(headers), internalToken)) return;
  throw new TorporError("unauthenticated", "missing or wrong internal token");
}

/**
 * Reads an OTLP/HTTP export in JSON of who knows the internal token.
 * @throws TorporError `unauthenticated`, `unsupported_media_type` (protobuf), `payload_too_large`, `invalid_argument`.
 */
export async function readExport<Schema extends z.ZodType>(
  request: Request,
  internalToken: string,
  schema: Schema,
): Promise<z.output<Schema>> {
  requireInternalToken(request, internalToken);
  const mediaType = (request.headers.get("content-type") ?? "").split(";")[0]!.trim().toLowerCase();
  if (mediaType !== "application/json") {
    throw new TorporError("unsupported_media_type", "OTLP is received as application/json only", {
      hint: "set OTEL_EXPORTER_OTLP_PROTOCOL=http/json",
    });
  }
  return parseInput(schema, parseJson(await readCapped(request, MAX_BODY_BYTES)));
}

function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch (thrown) {
    throw new TorporError("invalid_argument", "the body is not valid JSON", { field: "body", cause: thrown });
  }
}
