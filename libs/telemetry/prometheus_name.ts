import { INSTRUMENTS, type MetricName } from "./instruments.ts";

/** Units as Prometheus writes them (https://prometheus.io/docs/practices/naming/#base-units). */
const UNITS: Record<string, string> = { s: "seconds", ms: "milliseconds", By: "bytes" };

/**
 * A metric's name with its unit as a suffix, which is what the OpenTelemetry specification asks of an exporter to
 * Prometheus and the collector does. Dots stay; `_total`, `_bucket` … are left to the exporter.
 * @param unit in UCUM; what is in braces is an annotation and no unit.
 */
export function nameWithUnit(name: string, unit: string): string {
  const suffix = UNITS[unit];
  return suffix === undefined || name.split(/[._]/).includes(suffix) ? name : `${name}.${suffix}`;
}

/** The series that Prometheus has of a metric: several for a histogram. */
export function prometheusSeries(name: MetricName): string[] {
  const { kind, unit } = INSTRUMENTS[name];
  const base = nameWithUnit(name, unit).replaceAll(".", "_");
  if (kind === "histogram") return ["_bucket", "_sum", "_count"].map((suffix) => base + suffix);
  return [kind === "counter" ? `${base}_total` : base];
}
