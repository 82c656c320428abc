import type { z } from "zod";
import { textAttributes } from "../otlp/attributes.ts";
import type { metricsExport, OtlpScopeMetrics } from "./otlp_metrics.ts";

/** As long as Prometheus itself takes a series for current. A process that ended is forgotten then. */
const STALE_MS = 300_000;

/** Many more than a deployment without a collector has; beyond it, who has not exported for longest is forgotten. */
const MAX_PROCESSES = 256;

/** The newest values of one process. */
export interface ProcessMetrics {
  /** `service.name` */
  service: string;
  /** `service.instance.id`, or empty. */
  instance: string;
  scopes: OtlpScopeMetrics[];
}

/**
 * The newest metrics of each process, in memory: they are sums since the process began, so that nothing is lost when the
 * api starts again, and all is there again after one interval of the exporters.
 */
export class MetricsStore {
  /** Oldest export first. */
  readonly #processes = new Map<string, ProcessMetrics & { atMs: number }>();

  /** Replaces what is known of the processes in an export. @param nowMs on any clock that does not go back. */
  keep({ resourceMetrics }: z.output<typeof metricsExport>, nowMs = performance.now()): void {
    for (const { resource, scopeMetrics } of resourceMetrics) {
      const { "service.name": service = "unknown", "service.instance.id": instance = "" } = textAttributes(
        resource.attributes,
      );
      const key = JSON.stringify([service, instance]);
      this.#processes.delete(key);
      this.#processes.set(key, { service, instance, scopes: scopeMetrics, atMs: nowMs });
    }
    this.#forget(nowMs);
  }

  /** What processes that still export have last said. */
  current(nowMs = performance.now()): ProcessMetrics[] {
    this.#forget(nowMs);
    return [...this.#processes.values()];
  }

  #forget(nowMs: number): void {
    for (const [key, { atMs }] of this.#processes) {
      if (this.#processes.size <= MAX_PROCESSES && nowMs - atMs <= STALE_MS) return;
      this.#processes.delete(key);
    }
  }
}
