export * from "./duration.ts";
export * from "./home.ts";
export * from "./read_config.ts";
export * from "./timeout_scale.ts";
