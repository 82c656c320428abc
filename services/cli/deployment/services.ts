import { join } from "@std/path";
import type { HomePaths } from "@torpor/config";
import type { Deployment } from "./deployment.ts";
import { hashTree } from "./hash_tree.ts";
import { REPOSITORY } from "./repository.ts";

/** The services that `up` starts, in the order in which they are started; `down` stops them in reverse. */
export const SERVICE_NAMES = ["api", "scheduler", "hostagent", "reconciler"] as const;

/** One of {@linkcode SERVICE_NAMES}. */
export type ServiceName = typeof SERVICE_NAMES[number];

/** How a service is run on one machine. */
export interface ServiceDefinition {
  name: ServiceName;
  /** Its main module. */
  entry: string;
  /** `unix:/path` or `http://host:port`. */
  address: string;
  /** Deno's permission flags. */
  permissions: string[];
  /** Its environment beyond {@linkcode commonEnvironment}. */
  env: Record<string, string>;
  /** How long it may take to stop, milliseconds. */
  stopMs: number;
}

/** Where a service of a data directory listens (the api's address is recorded, see Deployment). */
export function serviceSocket(paths: HomePaths, name: Exclude<ServiceName, "api">): string {
  return join(paths.run, `${name}.sock`);
}

/**
 * What identifies the code that a service runs: a hash of all sources but tests. A service carries it in its
 * environment, so that `up` notices when the code has changed since.
 */
export async function sourcesHash(): Promise<string> {
  const roots = ["deno.json", "deno.lock", "ffi", "libs", "proto/gen", "services"].map((name) =>
    join(REPOSITORY, name)
  );
  return await hashTree(
    roots,
    ({ name, isDirectory }) =>
      isDirectory ? name !== "build" && name !== "testing" : name.endsWith(".ts") && !name.endsWith("_test.ts"),
  );
}

/** The port of host agents, and of the scheduler for them, in a deployment with several. */
export const HOST_PORT = 7073;

/** The data directory of one of several host agents. @param index from 0. */
export function hostHome(paths: HomePaths, index: number): string {
  return join(paths.home, "hosts", String(index + 1));
}

/** The services of a deployment. Of several host agents none is among them: see startNetworkHosts. */
export function serviceDefinitions(
  deployment: Deployment,
  nativeDirectory: string,
  sources: string,
): ServiceDefinition[] {
  const { paths } = deployment;
  const address = (name: ServiceName) => name === "api" ? deployment.apiUrl : `unix:${serviceSocket(paths, name)}`;
  const { network } = deployment;
  const hostListen = network && { TORPOR_HOST_LISTEN: `https://${network.controlAddress}:${HOST_PORT}` };
  const database = { DATABASE_URL: deployment.databaseUrl };
  const scheduler = { TORPOR_SCHEDULER_URL: address("scheduler") };
  const define = (name: ServiceName, env: Record<string, string>, permissions: string[], stopMs = 10_000) => ({
    name,
    entry: join(REPOSITORY, "services", name, "main.ts"),
    address: address(name),
    permissions,
    env: { ...env, TORPOR_LISTEN: address(name), TORPOR_SERVICE: name, TORPOR_SOURCES: sources },
    stopMs,
  });
  return [
    define("api", { ...database, ...scheduler, TORPOR_RECONCILER_URL: address("reconciler") }, [
      `--allow-net=${networkOf(deployment, ["scheduler", "reconciler", "hostagent"])}`,
      `--allow-read=${[paths.run, paths.database].join(",")}`,
      `--allow-write=${[paths.run, paths.database].join(",")}`,
      "--allow-env",
    ]),
    define("scheduler", { ...database, ...hostListen }, [
      `--allow-net=${networkOf(deployment, ["scheduler"])}`,
      `--allow-read=${[paths.run, paths.database].join(",")}`,
      `--allow-write=${[paths.run, paths.database].join(",")}`,
      "--allow-env",
    ]),
    ...(network ? [] : [
      define("hostagent", { ...scheduler, TORPOR_LIB_DIR: nativeDirectory }, ["--allow-all"], 120_000),
    ]),
    define("reconciler", { ...database, ...scheduler }, [
      // It calls the receivers of webhooks, which can be anywhere; libs/webhooks says which are not allowed.
      "--allow-net",
      // To know the machine's own addresses, and for node:https to read the trusted certificate authorities.
      "--allow-sys",
      `--allow-read=${[paths.run, paths.database].join(",")}`,
      `--allow-write=${[paths.run, paths.database].join(",")}`,
      "--allow-env",
    ]),
  ];
}

/** What a service may connect to or listen on: the sockets of its peers, the database, and the api (it takes the traces). */
function networkOf(deployment: Deployment, sockets: Exclude<ServiceName, "api">[]): string {
  const api = new URL(deployment.apiUrl).host;
  const database = new URL(deployment.databaseUrl);
  const host = database.searchParams.get("host");
  const databaseAddress = host?.startsWith("/")
    ? `unix:${join(host, ".s.PGSQL.5432")}`
    : `${database.hostname}:${database.port || "5432"}`;
  // fetch over a unix socket asks for the permission of the URL it is given, which names no real host.
  const unixUrl = "localhost:80";
  const { network, paths } = deployment;
  const hosts = network ? [network.controlAddress, ...network.hosts.map(({ address }) => address)] : [];
  return [
    api,
    databaseAddress,
    unixUrl,
    ...hosts.map((address) => `${address}:${HOST_PORT}`),
    ...sockets.map((name) => `unix:${serviceSocket(paths, name)}`),
  ].join(",");
}

// An unsampled parent: the exporter sends it with each batch, so that the receiver does not trace the receiving of
// traces, which would never end.
const UNSAMPLED_PARENT = "00-11111111111111111111111111111111-2222222222222222-00";

/** Variables that send a process's spans and metrics to the api of this deployment, under the name of a component. */
export function telemetryEnvironment(deployment: Deployment, component: string): Record<string, string> {
  const authorization = encodeURIComponent(`Bearer ${deployment.internalToken}`);
  return {
    OTEL_DENO: "true",
    OTEL_SERVICE_NAME: component,
    OTEL_EXPORTER_OTLP_ENDPOINT: `${deployment.apiUrl}/otlp`,
    OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
    OTEL_EXPORTER_OTLP_HEADERS: `traceparent=${UNSAMPLED_PARENT},authorization=${authorization}`,
    OTEL_TRACES_SAMPLER: "parentbased_always_on",
    // Late enough that exporting does not take the processor from the request it tells of.
    OTEL_BSP_SCHEDULE_DELAY: "1000",
    OTEL_METRIC_EXPORT_INTERVAL: "15000",
    OTEL_DENO_CONSOLE: "ignore",
  };
}

/** What every process needs, whoever's it is. */
function plainEnvironment(deployment: Deployment): Record<string, string> {
  return {
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    LANG: "C.UTF-8",
    DENO_DIR: Deno.env.get("DENO_DIR") ?? join(deployment.paths.cache, "deno"),
    DENO_NO_UPDATE_CHECK: "1",
  };
}

const SECRETS = ["TORPOR_INTERNAL_TOKEN", "TORPOR_API_KEY"];

/**
 * The environment of a host agent that shares no secret with the control plane, as on another machine: the caller's
 * TORPOR_* settings but secrets, and no telemetry, which is sent with one.
 */
export function hostEnvironment(deployment: Deployment, env: Record<string, string>): Record<string, string> {
  const settings = Object.entries(Deno.env.toObject())
    .filter(([name]) => name.startsWith("TORPOR_") && !SECRETS.includes(name));
  return {
    ...plainEnvironment(deployment),
    ...Object.fromEntries(settings),
    ...env,
    TORPOR_CACHE: deployment.paths.cache,
    TORPOR_DEPLOYMENT: deployment.paths.home,
  };
}

/** The whole environment of a service: nothing of the caller's but TORPOR_* and OTEL_* settings, which win. */
export function serviceEnvironment(deployment: Deployment, service: ServiceDefinition): Record<string, string> {
  const settings = Object.entries(Deno.env.toObject()).filter(([name]) => /^(TORPOR|OTEL)_/.test(name));
  return {
    ...plainEnvironment(deployment),
    ...telemetryEnvironment(deployment, service.name),
    // Where it listens: no other process does, and the same after a restart.
    OTEL_RESOURCE_ATTRIBUTES: `service.instance.id=${service.address}`,
    ...Object.fromEntries(settings),
    ...service.env,
    TORPOR_HOME: deployment.paths.home,
    TORPOR_CACHE: deployment.paths.cache,
    TORPOR_INTERNAL_TOKEN: deployment.internalToken,
  };
}
