import { z } from "zod";
import { otlpAttributes } from "../otlp/attributes.ts";

/**
 * OTLP/HTTP in JSON (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding): 64-bit integers are decimal
 * strings or numbers, and members that a receiver does not know are to be ignored. Exponential histograms and summaries
 * are none of ours.
 */
const integer = z.union([z.int(), z.string().regex(/^-?[0-9]{1,20}$/).transform(Number)]);

const double = z.union([z.number(), z.enum(["NaN", "Infinity", "-Infinity"]).transform(Number)]);

const MAX_POINTS = 10_000;

const numberPoint = z.object({
  attributes: otlpAttributes,
  asDouble: double.optional(),
  asInt: integer.optional(),
});

const histogramPoint = z.object({
  attributes: otlpAttributes,
  count: integer,
  sum: double.optional(),
  bucketCounts: z.array(integer).max(1024).default([]),
  explicitBounds: z.array(double).max(1023).default([]),
}).refine(
  ({ bucketCounts, explicitBounds }) => bucketCounts.length === 0 || bucketCounts.length === explicitBounds.length + 1,
  "there must be one bucket more than bounds",
);

/** Values since the start of the process. The newest of them can stand for all before, what changed since cannot. */
const cumulative = z.union([z.literal(2), z.literal("AGGREGATION_TEMPORALITY_CUMULATIVE")], {
  error: "must be cumulative: unset OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
});

const metric = z.object({
  name: z.string().min(1).max(255),
  description: z.string().default(""),
  unit: z.string().max(63).default(""),
  gauge: z.object({ dataPoints: z.array(numberPoint).max(MAX_POINTS).default([]) }).optional(),
  sum: z.object({
    dataPoints: z.array(numberPoint).max(MAX_POINTS).default([]),
    aggregationTemporality: cumulative,
    isMonotonic: z.boolean().default(false),
  }).optional(),
  histogram: z.object({
    dataPoints: z.array(histogramPoint).max(MAX_POINTS).default([]),
    aggregationTemporality: cumulative,
  }).optional(),
});

const scopeMetrics = z.object({
  scope: z.object({ name: z.string().default("") }).prefault({}),
  metrics: z.array(metric).max(1_000).default([]),
});

/** An ExportMetricsServiceRequest. */
export const metricsExport = z.object({
  resourceMetrics: z.array(z.object({
    resource: z.object({ attributes: otlpAttributes }).prefault({}),
    scopeMetrics: z.array(scopeMetrics).max(100).default([]),
  })).max(100).default([]),
});

export type OtlpScopeMetrics = z.output<typeof scopeMetrics>;
export type OtlpMetric = z.output<typeof metric>;
export type OtlpNumberPoint = z.output<typeof numberPoint>;
