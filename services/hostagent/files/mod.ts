// The RPCs and HTTP routes about files.
export { dataRoutes } from "./data_routes.ts";
export { fileHandlers } from "./handlers.ts";
