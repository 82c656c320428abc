import type { OpenAPIHono } from "@hono/zod-openapi";
import type { Caller } from "../keys/caller.ts";

/** What comes with a request, and what the middleware leaves for the routes. */
export interface RestEnvironment {
  /** Where the connection comes from; "" for a unix socket. */
  Bindings: { address: string };
  Variables: { caller: Caller };
}

/** The application that routes are added to. */
export type RestApp = OpenAPIHono<RestEnvironment>;
