// The RPCs about processes.
export { execHandlers } from "./handlers.ts";
