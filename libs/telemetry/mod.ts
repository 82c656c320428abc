export * from "./log.ts";
export * from "./spans.ts";
