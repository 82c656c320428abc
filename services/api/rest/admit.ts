import type { MiddlewareHandler } from "hono";
import type { Admission } from "../keys/admission.ts";
import type { RestEnvironment } from "./environment.ts";
import { errorOf } from "./errors.ts";
import type { KnownPath, PathTable } from "./path_table.ts";

/** Lets calls in, and tells the audit log how they have ended. A stream counts when it has begun. */
export function admit(admission: Admission, paths: PathTable): MiddlewareHandler<RestEnvironment> {
  return async (c, next) => {
    const known = paths.find(c.req.path);
    const method = c.req.method === "HEAD" ? "GET" : c.req.method;
    const admitted = await admission.admit({
      headers: c.req.raw.headers,
      call: known?.methods.has(method) ? `${method} ${known.template}` : undefined,
      target: known ? targetOf(known, c.req.path) : "",
      address: c.env.address,
    });
    const { caller, end } = admitted;
    c.set("caller", caller);
    await next();
    c.res.headers.set("x-request-id", caller.call.requestId);
    end(c.error ? errorOf(c.error).code : "ok");
  };
}

/** The first parameter of a path. */
function targetOf({ template }: KnownPath, path: string): string {
  const index = template.split("/").findIndex((segment) => segment.startsWith("{"));
  return index < 0 ? "" : path.split("/")[index] ?? "";
}
