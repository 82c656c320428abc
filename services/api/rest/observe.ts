import type { MiddlewareHandler } from "hono";
import { currentTraceId, currentTraceparent, measure, nameActiveSpan } from "@torpor/telemetry";
import type { RestEnvironment } from "./environment.ts";
import type { PathTable } from "./path_table.ts";

/** Clients may send any word as the method; the others are one series together. */
const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/**
 * Names the request's span after its route, and tells the client where the trace is (`x-trace-id`, `traceparent`) and how
 * long the answer took (`server-timing`; for a stream, until its first byte). 405 answers get their Allow header here.
 */
export function observe(paths: PathTable): MiddlewareHandler<RestEnvironment> {
  return async (c, next) => {
    const started = performance.now();
    const known = paths.find(c.req.path);
    const route = known?.template ?? "(unknown path)";
    nameActiveSpan(`${c.req.method} ${route}`, { "http.route": route });
    await next();
    const tookMs = performance.now() - started;
    measure("torpor.api.request.duration", tookMs / 1000, {
      "http.route": route,
      "http.request.method": METHODS.includes(c.req.method) ? c.req.method : "_OTHER",
      "torpor.status_class": `${Math.floor(c.res.status / 100)}xx`,
    });
    const headers = c.res.headers;
    headers.set("server-timing", `total;dur=${tookMs.toFixed(1)}`);
    const traceId = currentTraceId();
    if (traceId !== undefined) {
      headers.set("x-trace-id", traceId);
      headers.set("traceparent", currentTraceparent());
    }
    if (c.res.status === 405 && known) headers.set("allow", [...known.methods].join(", "));
  };
}
