export * from "./resolvers.ts";
