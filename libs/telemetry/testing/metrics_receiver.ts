import { z } from "zod";

const attributes = z.array(z.object({ key: z.string(), value: z.object({ stringValue: z.string().optional() }) }))
  .transform((list) => Object.fromEntries(list.map(({ key, value }) => [key, value.stringValue ?? ""])));

const point = z.object({
  attributes,
  asDouble: z.number().optional(),
  asInt: z.union([z.number(), z.string().transform(Number)]).optional(),
  count: z.union([z.number(), z.string().transform(Number)]).optional(),
  sum: z.number().optional(),
  explicitBounds: z.array(z.number()).optional(),
});

const points = z.object({ dataPoints: z.array(point), isMonotonic: z.boolean().optional() });

const metric = z.object({
  name: z.string(),
  unit: z.string(),
  sum: points.optional(),
  gauge: points.optional(),
  histogram: points.optional(),
});

const exportRequest = z.object({
  resourceMetrics: z.array(z.object({
    resource: z.object({ attributes }),
    scopeMetrics: z.array(z.object({ scope: z.object({ name: z.string() }), metrics: z.array(metric) })),
  })),
});

/** One metric of one export. */
export interface ReceivedMetric {
  /** `service.name` of who sent it. */
  service: string;
  name: string;
  unit: string;
  kind: "sum" | "gauge" | "histogram";
  points: z.output<typeof point>[];
}

/** An OTLP/HTTP endpoint on the loopback that keeps the metrics it gets and answers everything else with success. */
export class MetricsReceiver implements AsyncDisposable {
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #received: ReceivedMetric[] = [];
  #arrived = Promise.withResolvers<void>();

  constructor() {
    this.#server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
      const body = await request.text();
      if (new URL(request.url).pathname === "/v1/metrics") this.#keep(JSON.parse(body));
      return Response.json({});
    });
  }

  /** For a process that exports here, every `intervalMs`. */
  environment(service: string, intervalMs: number): Record<string, string> {
    return {
      OTEL_DENO: "true",
      OTEL_SERVICE_NAME: service,
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${this.#server.addr.port}`,
      OTEL_METRIC_EXPORT_INTERVAL: String(intervalMs),
      OTEL_DENO_CONSOLE: "ignore",
    };
  }

  /** All that has come so far, oldest first. */
  get received(): readonly ReceivedMetric[] {
    return this.#received;
  }

  /** Waits until a metric has come for which `matches`. */
  async waitFor(matches: (metric: ReceivedMetric) => boolean): Promise<ReceivedMetric> {
    while (true) {
      const found = this.#received.findLast(matches);
      if (found) return found;
      await this.#arrived.promise;
    }
  }

  #keep(body: unknown): void {
    for (const { resource, scopeMetrics } of exportRequest.parse(body).resourceMetrics) {
      const service = resource.attributes["service.name"] ?? "";
      for (const { name, unit, ...kinds } of scopeMetrics.flatMap(({ metrics }) => metrics)) {
        for (const kind of ["sum", "gauge", "histogram"] as const) {
          const points = kinds[kind]?.dataPoints;
          if (points) this.#received.push({ service, name, unit, kind, points });
        }
      }
    }
    this.#arrived.resolve();
    this.#arrived = Promise.withResolvers();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }
}
