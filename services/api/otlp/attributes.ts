import { z } from "zod";

/**
 * Attributes as OTLP/HTTP has them in JSON (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding): 64-bit
 * integers are decimal strings or numbers.
 */
const int64 = z.union([z.string().regex(/^-?[0-9]{1,20}$/), z.number().transform(String)]);

/** An attribute's value. Lists and maps stay as they came. */
const anyValue = z.object({
  stringValue: z.string().optional(),
  boolValue: z.boolean().optional(),
  intValue: int64.optional(),
  doubleValue: z.union([z.number(), z.enum(["NaN", "Infinity", "-Infinity"])]).optional(),
  bytesValue: z.string().optional(),
  arrayValue: z.unknown().optional(),
  kvlistValue: z.unknown().optional(),
});

/** Attributes of a resource, a span or a data point. */
export const otlpAttributes = z.array(z.object({ key: z.string().max(256), value: anyValue.optional() })).max(1024)
  .default([]);

export type OtlpAttributes = z.output<typeof otlpAttributes>;

const MAX_TEXT = 4096;
const MAX_ATTRIBUTES = 128;

/** Attributes as texts; what is beyond 128 of them is dropped. */
export function textAttributes(attributes: OtlpAttributes): Record<string, string> {
  const entries = attributes.slice(0, MAX_ATTRIBUTES).map(({ key, value }) => [storable(key), storable(textOf(value))]);
  return Object.fromEntries(entries);
}

function textOf(value: OtlpAttributes[number]["value"]): string {
  if (value === undefined) return "";
  const scalar = value.stringValue ?? value.intValue ?? value.boolValue ?? value.doubleValue ?? value.bytesValue;
  if (scalar !== undefined) return String(scalar);
  const list = value.arrayValue ?? value.kvlistValue;
  return list === undefined ? "" : JSON.stringify(list);
}

/** At most 4096 characters that PostgreSQL can store: neither NUL nor lone surrogates. */
export function storable(text: string): string {
  return text.slice(0, MAX_TEXT).replaceAll("\0", "\ufffd").toWellFormed();
}
