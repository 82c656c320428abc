import type { Plane } from "./plane.ts";
import { cpuMs } from "./process_figures.ts";
import { quantile } from "./quantile.ts";

const WARM_UP_MS = 3_000;
const MEASURED_MS = 10_000;

/** Sandboxes whose lives go on at the same time. */
const CLIENTS = 24;

/** Lives of sandboxes through the api, on hosts that do nothing, beside 1,000 that are there already: operations a second and the time of each. */
export async function benchLifecycle(plane: Plane): Promise<Record<string, number>> {
  await using _hosts = await plane.startHosts(10, 100);
  const call = callsOf(plane);
  let times: number[] = [];
  let until = performance.now() + WARM_UP_MS;
  const timed = async (method: string, path: string, status: number) => {
    const began = performance.now();
    const body = await call(method, path, status);
    times.push(performance.now() - began);
    return body;
  };
  const live = async () => {
    while (performance.now() < until) {
      const { sandbox_id: id } = await timed("POST", "/v1/sandboxes", 201);
      await timed("POST", `/v1/sandboxes/${id}/pause`, 200);
      await timed("POST", `/v1/sandboxes/${id}/resume`, 200);
      await timed("DELETE", `/v1/sandboxes/${id}`, 204);
    }
  };
  await Promise.all(Array.from({ length: CLIENTS }, live));
  times = [];
  const pids = { ...plane.pids, hosts: plane.hostsPid };
  const before = Object.values(pids).map(cpuMs);
  const began = performance.now();
  until = began + MEASURED_MS;
  await Promise.all(Array.from({ length: CLIENTS }, live));
  const seconds = (performance.now() - began) / 1000;
  const figures: Record<string, number> = {
    lifecycle_tx_per_s: times.length / seconds,
    lifecycle_p50_ms: quantile(times, 0.5),
    lifecycle_p99_ms: quantile(times, 0.99),
  };
  for (const [index, [name, pid]] of Object.entries(pids).entries()) {
    figures[`lifecycle_cpu_ms_per_tx_${name}`] = (cpuMs(pid) - before[index]!) / times.length;
  }
  const [row] = await plane.database.sql<{ failed: number }[]>`
    select count(*)::int as failed from operations where state <> 'succeeded'`;
  if (row!.failed > 0) throw new Error(`${row!.failed} operations have not succeeded`);
  return figures;
}

function callsOf({ deployment, apiKey }: Plane) {
  return async (method: string, path: string, status: number): Promise<Record<string, unknown>> => {
    const headers = { authorization: `Bearer ${apiKey}` };
    const response = await fetch(`${deployment.apiUrl}${path}`, { method, headers });
    const text = await response.text();
    if (response.status !== status) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text === "" ? {} : JSON.parse(text);
  };
}
