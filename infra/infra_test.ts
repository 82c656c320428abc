/** What can be known about the container files without a container engine: they parse, fit together, and set only variables that exist. */
import { assert, assertEquals } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { INSTRUMENTS, type MetricName, prometheusSeries } from "@torpor/telemetry";
import { parse } from "yaml";
import { AGENT_CAPABILITIES } from "../services/hostagent/confinement/agent_capabilities.ts";
import { z } from "zod";

const INFRA = fromFileUrl(new URL(".", import.meta.url));
const REPOSITORY = join(INFRA, "..");
const UNIT = join(INFRA, "systemd/torpor-hostagent.service");

const conditionSchema = z.enum(["service_started", "service_healthy", "service_completed_successfully"]);
const buildSchema = z.strictObject({ context: z.string(), dockerfile: z.string() });

// The part of the Compose specification that compose.yaml uses; whatever else stands there is an error.
const composeSchema = z.strictObject({
  services: z.record(
    z.string(),
    z.strictObject({
      image: z.string().regex(/^[a-z0-9./-]+:[a-z0-9.]+$/, "an image with a fixed version").optional(),
      build: buildSchema.optional(),
      entrypoint: z.array(z.string()).optional(),
      command: z.array(z.string()).optional(),
      environment: z.record(z.string(), z.string()).optional(),
      ports: z.array(z.string().regex(/^127\.0\.0\.1:[0-9]+:[0-9]+$/, "published on this machine only")).optional(),
      volumes: z.array(z.string()).optional(),
      devices: z.array(z.string().startsWith("/dev/")).optional(),
      cap_add: z.array(z.string()).optional(),
      cap_drop: z.array(z.string()).optional(),
      security_opt: z.array(z.string()).optional(),
      cgroup: z.enum(["host", "private"]).optional(),
      depends_on: z.union([z.array(z.string()), z.record(z.string(), z.strictObject({ condition: conditionSchema }))])
        .optional(),
      healthcheck: z.strictObject({
        test: z.array(z.string()),
        interval: z.string(),
        timeout: z.string(),
        retries: z.int(),
      }).optional(),
      stop_grace_period: z.string().optional(),
      restart: z.enum(["unless-stopped", "on-failure", "always", "no"]).optional(),
    }).refine(({ image, build }) => (image === undefined) !== (build === undefined), "either image or build"),
  ),
  volumes: z.record(z.string(), z.null()),
});

type Compose = z.infer<typeof composeSchema>;

async function readYaml(path: string): Promise<unknown> {
  return parse(await Deno.readTextFile(join(INFRA, path)), { merge: true, strict: true, uniqueKeys: true });
}

async function readCompose(): Promise<Compose> {
  const document = await readYaml("compose.yaml") as Record<string, unknown>;
  return composeSchema.parse(Object.fromEntries(Object.entries(document).filter(([key]) => !key.startsWith("x-"))));
}

async function sourcesOf(directory: string): Promise<string> {
  let text = "";
  for await (const { name, isDirectory } of Deno.readDir(directory)) {
    if (isDirectory) text += await sourcesOf(join(directory, name));
    else if (name.endsWith(".ts") && !name.endsWith("_test.ts")) text += await Deno.readTextFile(join(directory, name));
  }
  return text;
}

Deno.test("compose.yaml keeps the specification, and all that it names exists", async () => {
  const compose = await readCompose();
  for (const [name, service] of Object.entries(compose.services)) {
    const needed = Array.isArray(service.depends_on) ? service.depends_on : Object.keys(service.depends_on ?? {});
    for (const other of needed) assert(other in compose.services, `${name} depends on ${other}`);
    for (
      const [other, { condition }] of Object.entries(Array.isArray(service.depends_on) ? {} : service.depends_on ?? {})
    ) {
      if (condition !== "service_healthy") continue;
      const target = compose.services[other]!;
      const file = target.build && await Deno.readTextFile(join(INFRA, target.build.context, target.build.dockerfile));
      assert(target.healthcheck || file?.includes("HEALTHCHECK"), `${name} waits for the health of ${other}`);
    }
    if (service.build) await Deno.stat(join(INFRA, service.build.context, service.build.dockerfile));
    for (const volume of service.volumes ?? []) {
      const source = volume.split(":")[0]!;
      if (source.startsWith("./")) await Deno.stat(join(INFRA, source));
      else if (source.startsWith("/sys/")) await Deno.stat(source);
      else assert(source in compose.volumes, `${name} uses the volume ${source}`);
    }
  }
});

Deno.test("compose.yaml runs the four services, and sets only variables that they read", async () => {
  const compose = await readCompose();
  const libraries = await sourcesOf(join(REPOSITORY, "libs"));
  for (const name of ["api", "scheduler", "reconciler", "hostagent"]) {
    const service = compose.services[name];
    assert(service, name);
    const sources = await sourcesOf(join(REPOSITORY, "services", name)) + libraries;
    for (const variable of Object.keys(service.environment ?? {}).filter((key) => !key.startsWith("OTEL_"))) {
      assert(sources.includes(variable), `${name} does not read ${variable}`);
    }
    assertEquals(service.environment?.OTEL_SERVICE_NAME, name);
  }
});

Deno.test("each address that one service is given is one that another listens on", async () => {
  const compose = await readCompose();
  const own = Object.entries(compose.services).flatMap(([name, { environment }]) => {
    const listen = environment?.TORPOR_LISTEN;
    return listen ? [`http://${name}:${new URL(listen).port}`] : [];
  });
  for (const [name, { environment }] of Object.entries(compose.services)) {
    for (const [variable, value] of Object.entries(environment ?? {})) {
      if (!/^TORPOR_.*(URL|ADDRESS)$/.test(variable)) continue;
      assert(own.includes(value), `${name}: ${variable}=${value}`);
    }
  }
});

Deno.test("unit and container of the host agent have the capabilities that it uses, and no others", async () => {
  const wanted = Object.keys(AGENT_CAPABILITIES).sort();
  const { hostagent } = (await readCompose()).services;
  assertEquals(hostagent!.cap_drop, ["ALL"]);
  assertEquals(hostagent!.cap_add!.map((name) => `CAP_${name}`).sort(), wanted);
  const unit = await Deno.readTextFile(UNIT);
  assertEquals(/^CapabilityBoundingSet=(.*)$/m.exec(unit)![1]!.split(" ").sort(), wanted);
  const devices = [...unit.matchAll(/^DeviceAllow=(\S+)/gm)].map(([, path]) => path!);
  assertEquals(devices, hostagent!.devices);
});

Deno.test({
  name: "systemd accepts the host agent's unit",
  ignore: !await exists("/usr/bin/systemd-analyze"),
  async fn() {
    const directory = await Deno.makeTempDir();
    // What it runs need not be installed here.
    const unit = (await Deno.readTextFile(UNIT)).replace(/^ExecStart=\S+/m, "ExecStart=/bin/true");
    await Deno.writeTextFile(join(directory, "torpor-hostagent.service"), unit);
    const args = ["verify", join(directory, "torpor-hostagent.service")];
    const { success, stderr } = await new Deno.Command("/usr/bin/systemd-analyze", { args }).output();
    const said = new TextDecoder().decode(stderr).split("\n").filter((line) => line.includes("torpor-hostagent"));
    await Deno.remove(directory, { recursive: true });
    assertEquals([success, said], [true, []]);
  },
});

async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

Deno.test("each Dockerfile copies and runs what exists", async () => {
  for (const service of ["api", "scheduler", "reconciler", "hostagent"]) {
    const text = await Deno.readTextFile(join(INFRA, service, "Dockerfile"));
    for (const [, paths] of text.matchAll(/^COPY (?!--from)(.+) \S+$/gm)) {
      for (const path of paths!.split(" ")) await Deno.stat(join(REPOSITORY, path));
    }
    for (const [path] of text.matchAll(/services\/[a-z]+\/[a-z]+\.ts/g)) await Deno.stat(join(REPOSITORY, path));
    assert(text.includes(`services/${service}/main.ts`), service);
  }
});

Deno.test("the collector's pipelines name components that are configured", async () => {
  const schema = z.strictObject({
    receivers: z.record(z.string(), z.unknown()),
    processors: z.record(z.string(), z.unknown()),
    connectors: z.record(z.string(), z.unknown()),
    exporters: z.record(z.string(), z.unknown()),
    service: z.strictObject({
      pipelines: z.record(
        z.string(),
        z.strictObject({
          receivers: z.array(z.string()),
          processors: z.array(z.string()),
          exporters: z.array(z.string()),
        }),
      ),
    }),
  });
  const config = schema.parse(await readYaml("observability/otel-collector.yaml"));
  for (const pipeline of Object.values(config.service.pipelines)) {
    for (const kind of ["receivers", "processors", "exporters"] as const) {
      for (const name of pipeline[kind]) assert(name in config[kind] || name in config.connectors, name);
    }
  }
});

/** What the connector spanmetrics with the namespace "torpor" makes of spans. */
const SPAN_LABELS = ["span_name", "service_name", "status_code", "error_code", "torpor_component"];
const SPAN_METRICS = {
  torpor_calls_total: SPAN_LABELS,
  torpor_duration_milliseconds_bucket: [...SPAN_LABELS, "le"],
};

/** Labels of each series that there can be in Prometheus. */
function knownSeries(): Map<string, string[]> {
  const series = new Map<string, string[]>(Object.entries(SPAN_METRICS));
  for (const [name, { attributes }] of Object.entries(INSTRUMENTS)) {
    const labels = [...attributes, "job", "instance"].map((attribute) => attribute.replaceAll(".", "_"));
    for (const one of prometheusSeries(name as MetricName)) {
      series.set(one, one.endsWith("_bucket") ? [...labels, "le"] : labels);
    }
  }
  return series;
}

async function readPanels() {
  const target = z.object({ expr: z.string(), legendFormat: z.string() });
  const panel = z.object({ title: z.string(), datasource: z.object({ uid: z.string() }), targets: z.array(target) });
  const row = z.object({ type: z.literal("row") });
  const dashboard = z.object({ panels: z.array(z.union([panel, row])) })
    .parse(JSON.parse(await Deno.readTextFile(join(INFRA, "observability/grafana/dashboards/torpor.json"))));
  return dashboard.panels.flatMap((one) => "targets" in one ? [one] : []);
}

Deno.test("the dashboard uses the provisioned data source, and metrics and labels that exist", async () => {
  const sources = z.object({ datasources: z.array(z.object({ uid: z.string() })) })
    .parse(await readYaml("observability/grafana/provisioning/datasources/datasources.yaml"));
  const known = knownSeries();
  for (const { title, datasource, targets } of await readPanels()) {
    assert(sources.datasources.some(({ uid }) => uid === datasource.uid), title);
    for (const { expr, legendFormat } of targets) {
      const names = expr.replaceAll(/ by \([^)]*\)/g, "").match(/\btorpor_[a-z0-9_]+(?=[[{)])/g) ?? [];
      assertEquals(names.length, 1, `${title}: ${expr}`);
      const labels = known.get(names[0]!);
      assert(labels, `${title}: there is no ${names[0]}`);
      const grouped = /sum by \(([^)]*)\)/.exec(expr)?.[1]?.split(", ") ?? [];
      const selected = [...expr.matchAll(/[{,]\s*([a-z_]+)(?:=~|!=|!~|=)"/g)].map(([, label]) => label!);
      for (const label of [...grouped, ...selected]) assert(labels.includes(label), `${title}: ${label} in ${expr}`);
      for (const [, label] of legendFormat.matchAll(/\{\{([a-z_]+)\}\}/g)) {
        assert(grouped.includes(label!), `${title}: ${legendFormat} names what is summed up`);
      }
    }
  }
});

Deno.test("the dashboard shows every metric", async () => {
  const shown = (await readPanels()).flatMap(({ targets }) => targets.map(({ expr }) => expr)).join("\n");
  for (const name of Object.keys(INSTRUMENTS) as MetricName[]) {
    assert(prometheusSeries(name).some((series) => new RegExp(`\\b${series}\\b`).test(shown)), name);
  }
});

Deno.test("metrics go to Prometheus under the names and with the labels that the services gave them", async () => {
  const collector = z.object({
    exporters: z.object({ prometheus: z.object({ endpoint: z.string(), add_metric_suffixes: z.literal(true) }) }),
    service: z.object({ pipelines: z.object({ metrics: z.object({ receivers: z.array(z.string()) }) }) }),
  }).parse(await readYaml("observability/otel-collector.yaml"));
  assert(collector.service.pipelines.metrics.receivers.includes("otlp"));
  const { scrape_configs: [scrape] } = z.object({
    scrape_configs: z.tuple([z.object({
      // Otherwise job and instance would be the collector's.
      honor_labels: z.literal(true),
      static_configs: z.tuple([z.object({ targets: z.tuple([z.string()]) })]),
    })]),
  }).parse(await readYaml("observability/prometheus.yml"));
  const [target] = scrape.static_configs[0].targets;
  assertEquals(new URL(`http://${target}`).port, new URL(`http://${collector.exporters.prometheus.endpoint}`).port);
});
