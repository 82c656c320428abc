import { z } from "zod";
import { apiTarget, openApi } from "../client/api.ts";
import { deploymentPaths } from "../deployment/deployment.ts";
import { clusterRuns } from "../deployment/postgres.ts";
import { findServices } from "../deployment/service_process.ts";
import { SERVICE_NAMES } from "../deployment/services.ts";
import { TorporError } from "@torpor/errors";
import { paintFor } from "../terminal/paint.ts";
import { formatTable } from "../terminal/table.ts";
import { defineAction } from "./define.ts";
import { EXIT } from "./exit_codes.ts";
import { printJson } from "./print.ts";

const statusSchema = z.object({
  sandboxes: z.record(z.string(), z.int()),
  webhooks: z.object({ webhooks: z.int(), failing: z.int(), disabled: z.int(), pending: z.int() }),
  hosts: z.array(z.looseObject({
    host_id: z.string(),
    name: z.string(),
    state: z.string(),
    vcpus: z.number(),
    memory_mb: z.number(),
    reserved_vcpus: z.number(),
    reserved_memory_mb: z.number(),
    capabilities: z.array(z.string()),
  })),
  reconciler: z.looseObject({
    available: z.boolean(),
    error_code: z.string().optional(),
    leader: z.boolean().optional(),
    passes: z.int().optional(),
    repairs_by_kind: z.record(z.string(), z.int()).optional(),
  }).nullable(),
});

type Status = z.infer<typeof statusSchema>;

/** `torpor status` */
export const status = defineAction({
  name: "status",
  description:
    "Show services, hosts, sandboxes by state, and what the reconciler repaired. Fails when a service is down",
  async run({ args }) {
    const paths = deploymentPaths();
    const running = findServices(paths);
    const services = SERVICE_NAMES.map((name) => ({
      name,
      pid: running.find((service) => service.name === name)?.process.pid ?? null,
    }));
    const database = Deno.env.get("DATABASE_URL") ? "external" : await clusterRuns(paths) ? "running" : "stopped";
    const answer = await ask();
    const allUp = services.every(({ pid }) => pid !== null) && "status" in answer;
    if (args.json) {
      printJson({ home: paths.home, services, database, ...("status" in answer ? answer.status : { error: answer }) });
    } else {
      show(services, database, answer);
    }
    return allUp ? EXIT.ok : EXIT.unreachable;
  },
});

async function ask(): Promise<{ url: string; status: Status } | { code: string; message: string }> {
  try {
    const target = await apiTarget();
    using api = openApi(target);
    const response = await api.rest("/v1/status");
    return { url: target.url, status: statusSchema.parse(await response.json()) };
  } catch (error) {
    // A status says what does not work instead of failing with it.
    if (error instanceof TorporError) return { code: error.code, message: error.message };
    throw error;
  }
}

function show(
  services: { name: string; pid: number | null }[],
  database: string,
  answer: Awaited<ReturnType<typeof ask>>,
): void {
  const paint = paintFor(Deno.stdout);
  const rows = services.map(({ name, pid }) => [
    paint(pid ? "green" : "red", pid ? "●" : "○"),
    name,
    pid ? `pid ${pid}` : "stopped",
  ]);
  const databaseUp = database !== "stopped";
  rows.push([paint(databaseUp ? "green" : "red", databaseUp ? "●" : "○"), "postgresql", database]);
  console.log(formatTable(rows));
  if (!("status" in answer)) return console.log(`\nThe API does not answer: ${answer.message}`);
  const { hosts, sandboxes, webhooks, reconciler } = answer.status;
  console.log(`\nAPI ${answer.url}\n\nHosts`);
  const hostRows = hosts.map((host) => [
    host.name,
    host.state,
    `${host.reserved_vcpus}/${host.vcpus} vCPUs reserved`,
    `${host.reserved_memory_mb}/${host.memory_mb} MiB`,
    host.capabilities.join(" "),
  ]);
  console.log(hosts.length > 0 ? indent(formatTable(hostRows)) : "  none has registered");
  console.log(`\nSandboxes  ${counts(sandboxes)}`);
  if (webhooks.webhooks > 0) console.log(`Webhooks   ${counts({ ...webhooks })}`);
  if (reconciler && !reconciler.available) {
    console.log(`Reconciler does not answer (${reconciler.error_code})`);
  } else if (reconciler) {
    const role = reconciler.leader ? "leads" : "stands by";
    console.log(
      `Reconciler ${role}, ${reconciler.passes ?? 0} passes; repairs: ${counts(reconciler.repairs_by_kind ?? {})}`,
    );
  }
}

function counts(byName: Record<string, number>): string {
  const entries = Object.entries(byName).filter(([, count]) => count > 0);
  return entries.map(([name, count]) => `${name} ${count}`).join(", ") || "none";
}

function indent(text: string): string {
  return text.replace(/^/gm, "  ");
}
