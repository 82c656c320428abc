export * from "./home.ts";
export * from "./read_config.ts";
