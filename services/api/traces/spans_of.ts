import type { SpanRow } from "@torpor/db";
import { COMPONENT_ATTRIBUTE } from "@torpor/telemetry";
import { storable, textAttributes } from "../otlp/attributes.ts";
import { TELEMETRY_PATHS } from "../otlp/paths.ts";
import type { ExportRequest, OtlpSpan } from "./otlp_json.ts";

const STATUS = ["unset", "ok", "error"] as const;

/** The spans of an export as they are stored, without those of the exporting itself. */
export function spansOf(request: ExportRequest): SpanRow[] {
  const rows: SpanRow[] = [];
  for (const { resource, scopeSpans } of request.resourceSpans) {
    const service = textAttributes(resource.attributes)["service.name"] ?? "unknown";
    for (const span of scopeSpans.flatMap((scope) => scope.spans)) {
      const row = toRow(span, service);
      if (!isAboutTelemetry(row)) rows.push(row);
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

/** Exports of processes without the unsampled parent in OTEL_EXPORTER_OTLP_HEADERS (docs: traces), and Prometheus. */
function isAboutTelemetry(row: SpanRow): boolean {
  const { "url.path": path, "url.full": full } = row.attributes;
  return TELEMETRY_PATHS.includes(path ?? "") ||
    (full !== undefined && URL.canParse(full) && TELEMETRY_PATHS.includes(new URL(full).pathname));
}
