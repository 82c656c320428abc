export * from "./instruments.ts";
export * from "./log.ts";
export * from "./metrics.ts";
export * from "./prometheus_name.ts";
export * from "./spans.ts";
