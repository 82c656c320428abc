import { assertEquals } from "@std/assert";
import { MetricsStore } from "./metrics_store.ts";
import { metricsExport } from "./otlp_metrics.ts";

function exportOf(service: string, instance: string, metric: string) {
  const attribute = (key: string, stringValue: string) => ({ key, value: { stringValue } });
  return metricsExport.parse({
    resourceMetrics: [{
      resource: { attributes: [attribute("service.name", service), attribute("service.instance.id", instance)] },
      scopeMetrics: [{ metrics: [{ name: metric, gauge: {} }] }],
    }],
  });
}

function names(store: MetricsStore, nowMs: number): string[] {
  return store.current(nowMs).map(({ service, instance, scopes }) =>
    `${service} ${instance} ${scopes[0]!.metrics[0]!.name}`
  );
}

Deno.test("each process has its newest values, until it has not exported for five minutes", () => {
  const store = new MetricsStore();
  store.keep(exportOf("hostagent", "a", "first"), 0);
  store.keep(exportOf("hostagent", "b", "other"), 1_000);
  store.keep(exportOf("hostagent", "a", "second"), 2_000);
  assertEquals(names(store, 2_000), ["hostagent b other", "hostagent a second"]);
  assertEquals(names(store, 301_000), ["hostagent b other", "hostagent a second"]);
  assertEquals(names(store, 301_001), ["hostagent a second"]);
  assertEquals(names(store, 302_001), []);
});

Deno.test("of more processes than any deployment has, those that were silent for longest are forgotten", () => {
  const store = new MetricsStore();
  for (let process = 0; process < 300; process++) store.keep(exportOf("x", String(process), "m"), process);
  const kept = names(store, 300);
  assertEquals([kept.length, kept[0], kept.at(-1)], [256, "x 44 m", "x 299 m"]);
});
