/** Where spans are received. */
export const TRACES_RECEIVER_PATH = "/otlp/v1/traces";

/** Where metrics are received. */
export const METRICS_RECEIVER_PATH = "/otlp/v1/metrics";

/** Where Prometheus gets them. */
export const METRICS_PATH = "/metrics";

/** Requests about telemetry itself, which come again and again: their spans must not push those of users out of the store. */
export const TELEMETRY_PATHS: readonly string[] = [TRACES_RECEIVER_PATH, METRICS_RECEIVER_PATH, METRICS_PATH];
