import { untraced } from "@torpor/telemetry";
import { METRICS_PATH, METRICS_RECEIVER_PATH } from "../otlp/paths.ts";
import { readExport, requireInternalToken } from "../otlp/read_export.ts";
import type { RestApp } from "../rest/environment.ts";
import type { PathTable } from "../rest/path_table.ts";
import { MetricsStore } from "./metrics_store.ts";
import { metricsExport } from "./otlp_metrics.ts";
import { PROMETHEUS_TEXT, prometheusText } from "./prometheus_text.ts";

/** Adds the receiver of metrics, and the page that Prometheus reads. Both ask for the internal token. */
export function addMetricsRoutes(app: RestApp, paths: PathTable, internalToken: string): void {
  const store = new MetricsStore();
  app.post(METRICS_RECEIVER_PATH, async (c) => {
    store.keep(await untraced(() => readExport(c.req.raw, internalToken, metricsExport)));
    return c.json({});
  });
  app.get(METRICS_PATH, (c) => {
    requireInternalToken(c.req.raw, internalToken);
    return c.body(prometheusText(store.current()), 200, { "content-type": PROMETHEUS_TEXT });
  });
  paths.add("post", METRICS_RECEIVER_PATH);
  paths.add("get", METRICS_PATH);
}
