import { z } from "zod";
import { otlpAttributes as attributes } from "../otlp/attributes.ts";

/**
 * OTLP/HTTP in JSON (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding): ids are hexadecimal, 64-bit
 * integers are decimal strings or numbers, and members that a receiver does not know are to be ignored.
 */
const uint64 = z.union([
  z.string().regex(/^[0-9]{1,20}$/),
  z.int().min(0).transform(String),
]).transform((text) => BigInt(text)).refine((value) => value < 2n ** 63n, "must be below 2^63");

const hexId = (digits: number) =>
  z.string().regex(new RegExp(`^[0-9a-fA-F]{${digits}}$`), `must be ${digits} hexadecimal digits`)
    .transform((text) => text.toLowerCase());

/** 0 unset, 1 ok, 2 error. Exporters write the number or the name. */
const statusCode = z.union([
  z.int().min(0).max(2),
  z.enum(["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"]).transform((name) =>
    ["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"].indexOf(name)
  ),
]).default(0);

const span = z.object({
  traceId: hexId(32),
  spanId: hexId(16),
  parentSpanId: z.union([z.literal("").nullish().transform(() => ""), hexId(16)]).default(""),
  name: z.string().default(""),
  startTimeUnixNano: uint64,
  endTimeUnixNano: uint64,
  attributes,
  status: z.object({ code: statusCode, message: z.string().default("") }).prefault({}),
});

/** An ExportTraceServiceRequest. */
export const exportRequest = z.object({
  resourceSpans: z.array(z.object({
    resource: z.object({ attributes }).prefault({}),
    scopeSpans: z.array(z.object({ spans: z.array(span).max(100_000).default([]) })).max(10_000).default([]),
  })).max(10_000).default([]),
});

export type ExportRequest = z.output<typeof exportRequest>;
export type OtlpSpan = z.output<typeof span>;
