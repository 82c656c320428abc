import { ValueType } from "@opentelemetry/api";
import { PrometheusSerializer } from "@opentelemetry/exporter-prometheus";
import { emptyResource } from "@opentelemetry/resources";
import { AggregationTemporality, DataPointType, type MetricData, type ScopeMetrics } from "@opentelemetry/sdk-metrics";
import { nameWithUnit } from "@torpor/telemetry";
import { textAttributes } from "../otlp/attributes.ts";
import type { ProcessMetrics } from "./metrics_store.ts";
import type { OtlpMetric, OtlpNumberPoint } from "./otlp_metrics.ts";

/** Media type of {@linkcode prometheusText}. */
export const PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8";

const WITHOUT_TARGET_INFO = [undefined, false, undefined, true] as const;

/** The metrics of all processes in Prometheus' text format; `job` and `instance` say whose they are. */
export function prometheusText(processes: readonly ProcessMetrics[]): string {
  const scopeMetrics: ScopeMetrics[] = processes.flatMap((process) =>
    process.scopes.map(({ scope, metrics }) => ({
      scope: { name: scope.name },
      metrics: metrics.flatMap((metric) => toMetricData(metric, labelsOf(process))),
    }))
  );
  return new PrometheusSerializer(...WITHOUT_TARGET_INFO).serialize({ resource: emptyResource(), scopeMetrics });
}

/** As the specification of OpenTelemetry maps a process to Prometheus. */
function labelsOf({ service, instance }: ProcessMetrics): Record<string, string> {
  return { job: service, ...(instance === "" ? {} : { instance }) };
}

function toMetricData(metric: OtlpMetric, labels: Record<string, string>): MetricData[] {
  const common = {
    // The unit is in the name already, where it is one.
    descriptor: {
      name: nameWithUnit(metric.name, metric.unit),
      description: metric.description,
      unit: "",
      valueType: ValueType.DOUBLE,
    },
    aggregationTemporality: AggregationTemporality.CUMULATIVE,
  };
  const { gauge, sum, histogram } = metric;
  const withLabels = <T extends Pick<OtlpNumberPoint, "attributes">, V>(points: T[], value: (point: T) => V) =>
    points.map((point) => ({
      attributes: { ...textAttributes(point.attributes), ...labels },
      value: value(point),
      ...UNDATED,
    }));
  const data: MetricData[] = [];
  if (gauge) {
    data.push({ ...common, dataPointType: DataPointType.GAUGE, dataPoints: withLabels(gauge.dataPoints, numberOf) });
  }
  if (sum) {
    const dataPoints = withLabels(sum.dataPoints, numberOf);
    data.push({ ...common, dataPointType: DataPointType.SUM, isMonotonic: sum.isMonotonic, dataPoints });
  }
  if (histogram) {
    const dataPoints = withLabels(histogram.dataPoints, (point) => ({
      buckets: { boundaries: point.explicitBounds, counts: point.bucketCounts },
      count: point.count,
      sum: point.sum,
    }));
    data.push({ ...common, dataPointType: DataPointType.HISTOGRAM, dataPoints });
  }
  return data;
}

/** Times are not written: Prometheus takes that of its scrape. */
const UNDATED: { startTime: [number, number]; endTime: [number, number] } = { startTime: [0, 0], endTime: [0, 0] };

function numberOf({ asDouble, asInt }: OtlpNumberPoint): number {
  return asDouble ?? asInt ?? NaN;
}
