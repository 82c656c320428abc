import type { SpanRow } from "@torpor/db";
import { COMPONENT_ATTRIBUTE } from "@torpor/telemetry";
import type { ExportRequest, OtlpAttributes, OtlpSpan } from "./otlp_json.ts";

/** Where spans are received. A request to it makes spans of its own, which must not come back. */
export const RECEIVER_PATH = "/otlp/v1/traces";

const MAX_TEXT = 4096;
const MAX_ATTRIBUTES = 128;

const STATUS = ["unset", "ok", "error"] as const;

/** The spans of an export as they are stored, without those of exports themselves. */
export function spansOf(request: ExportRequest): SpanRow[] {
  const rows: SpanRow[] = [];
  for (const { resource, scopeSpans } of request.resourceSpans) {
    const service = textAttributes(resource.attributes)["service.name"] ?? "unknown";
    for (const span of scopeSpans.flatMap((scope) => scope.spans)) {
      const row = toRow(span, service);
      if (!isExport(row)) rows.push(row);
    }
  }
  return rows;
}

function toRow(span: OtlpSpan, service: string): SpanRow {
  const { [COMPONENT_ATTRIBUTE]: component, ...attributes } = textAttributes(span.attributes);
  return {
    traceId: span.traceId,
    spanId: span.spanId,
    parentSpanId: span.parentSpanId,
    name: storable(span.name),
    component: component ?? service,
    startNs: span.startTimeUnixNano,
    // A clock that was set back makes spans of negative length.
    endNs: span.endTimeUnixNano < span.startTimeUnixNano ? span.startTimeUnixNano : span.endTimeUnixNano,
    attributes,
    status: STATUS[span.status.code] ?? "unset",
    statusMessage: storable(span.status.message),
  };
}

/** Only a process without the unsampled parent in OTEL_EXPORTER_OTLP_HEADERS sends these (docs: traces). */
function isExport(row: SpanRow): boolean {
  const { "url.path": path, "url.full": full } = row.attributes;
  return path === RECEIVER_PATH ||
    (full !== undefined && URL.canParse(full) && new URL(full).pathname === RECEIVER_PATH);
}

function textAttributes(attributes: OtlpAttributes): Record<string, string> {
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

/** PostgreSQL stores neither NUL nor lone surrogates. */
function storable(text: string): string {
  return text.slice(0, MAX_TEXT).replaceAll("\0", "\ufffd").toWellFormed();
}
