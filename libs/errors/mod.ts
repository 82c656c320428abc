export * from "./torpor_error.ts";
