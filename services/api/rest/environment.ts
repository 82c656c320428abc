import type { OpenAPIHono } from "@hono/zod-openapi";
import type { Caller } from "../keys/caller.ts";

/** What the middleware leaves for the routes. */
export interface RestEnvironment {
  Variables: { caller: Caller };
}

/** The application that routes are added to. */
export type RestApp = OpenAPIHono<RestEnvironment>;
