import { assertEquals, assertGreater, assertLessOrEqual, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { SchedulerService } from "@torpor/proto/scheduler";
import { SandboxService } from "@torpor/proto/torpor";
import { formatAddress, openAddressFetch, openClient, parseAddress } from "@torpor/rpc";
import type { MetricName } from "@torpor/telemetry";
import { makeTestHome, openTestClient, sandboxHelpers, testInstallation } from "@torpor/testing/hostagent";
import { MetricsReceiver, type ReceivedMetric } from "../../../libs/telemetry/testing/metrics_receiver.ts";
import { TestApi } from "../api/harness.ts";
import { ControlPlane, TOKEN } from "../control/control_plane.ts";
import { ServiceProcess } from "./service_process.ts";

type Point = ReceivedMetric["points"][number];

/** The newest value of a series once it is there; of a histogram, how many values it has. */
async function valueOf(
  receiver: MetricsReceiver,
  name: MetricName,
  attributes: Record<string, string>,
  atLeast = 1,
): Promise<number> {
  const value = (point: Point) => point.count ?? point.asDouble ?? point.asInt ?? 0;
  const find = ({ points }: ReceivedMetric) =>
    points.find((point) => Object.entries(attributes).every(([key, text]) => point.attributes[key] === text));
  const matches = (metric: ReceivedMetric) => {
    const point = metric.name === name ? find(metric) : undefined;
    return point !== undefined && value(point) >= atLeast;
  };
  return value(find(await receiver.waitFor(matches))!);
}

Deno.test("reconciler and scheduler export repairs, passes, counts of everything, placements and queries", async () => {
  await using receiver = new MetricsReceiver();
  await using plane = await ControlPlane.start();
  const [kept, vanished] = [await plane.create(), await plane.create()];
  plane.host.sandboxes.delete(vanished.id);
  const directory = await makeTestHome();
  const env = { TORPOR_INTERNAL_TOKEN: TOKEN, DATABASE_URL: plane.test.url };
  const listen = `unix:${directory}/scheduler.sock`;
  try {
    await using _reconciler = await ServiceProcess.start("reconciler", receiver, {
      ...env,
      TORPOR_LISTEN: `unix:${directory}/reconciler.sock`,
      TORPOR_SCHEDULER_URL: plane.schedulerUrl,
      TORPOR_RECONCILE_INTERVAL_MS: "100",
      TORPOR_RECONCILE_GRACE_MS: "0",
    });
    await using _scheduler = await ServiceProcess.start("scheduler", receiver, { ...env, TORPOR_LISTEN: listen });
    using scheduler = openClient(SchedulerService, { address: parseAddress(listen), token: TOKEN });
    const resources = { vcpus: 1, memoryMb: 64n, diskMb: 64n };
    await scheduler.place({ sandboxId: newId(), resources });
    await scheduler.place({ sandboxId: newId(), resources: { ...resources, vcpus: 4096 } }).catch(() => {});

    assertEquals(await valueOf(receiver, "torpor.reconciler.repairs", { "torpor.repair": "vm_gone" }), 1);
    await valueOf(receiver, "torpor.reconciler.pass.duration", { "torpor.outcome": "ok" }, 2);
    assertEquals(await valueOf(receiver, "torpor.sandboxes", { "torpor.state": "running" }), 1);
    assertEquals(await valueOf(receiver, "torpor.sandboxes", { "torpor.state": "failed" }), 1);
    assertEquals(await valueOf(receiver, "torpor.sandboxes", { "torpor.state": "paused" }, 0), 0);
    assertEquals(await valueOf(receiver, "torpor.hosts", { "torpor.state": "ready" }), 1);
    await valueOf(receiver, "torpor.db.connections", { "torpor.service": "reconciler" });
    await valueOf(receiver, "torpor.db.query.duration", { "torpor.query": "census", "torpor.outcome": "ok" });
    const single = { "torpor.placement": "single" };
    assertEquals(await valueOf(receiver, "torpor.placement.duration", { ...single, "torpor.outcome": "ok" }), 1);
    await valueOf(receiver, "torpor.placement.duration", { ...single, "torpor.outcome": "no_capacity" });
    await valueOf(receiver, "torpor.rpc.duration", {
      "rpc.method": "scheduler.v1.SchedulerService/Place",
      "torpor.outcome": "no_capacity",
    });
    assertEquals((await plane.sandbox(kept.id)).state, "running");
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("the api exports requests by route, calls by method, and how lifecycle operations end", async () => {
  await using receiver = new MetricsReceiver();
  await using test = await TestApi.start();
  const directory = await makeTestHome();
  const address = parseAddress(`unix:${directory}/api.sock`);
  try {
    await using _api = await ServiceProcess.start("api", receiver, {
      TORPOR_LISTEN: formatAddress(address),
      TORPOR_INTERNAL_TOKEN: test.token,
      DATABASE_URL: test.databaseUrl,
      TORPOR_SCHEDULER_URL: test.schedulerUrl,
    });
    using sandboxes = openClient(SandboxService, { address, token: test.key });
    const { sandboxId } = (await sandboxes.createSandbox({ memoryMb: 128 })).sandbox!;
    await sandboxes.pauseSandbox({ sandboxId });
    const stream = sandboxes.execStream({ sandboxId: newId(), cmd: "true" });
    await assertRejects(() => Array.fromAsync(stream), TorporError);
    using http = openAddressFetch(address);
    const rest = async (method: string, path: string) => {
      const headers = { authorization: `Bearer ${test.key}` };
      const response = await http.fetch(`http://localhost${path}`, { method, headers });
      await response.body?.cancel();
      return response.status;
    };
    assertEquals(await rest("GET", `/v1/sandboxes/${sandboxId}`), 200);
    assertEquals(await rest("GET", `/v1/sandboxes/${newId()}`), 404);
    assertEquals(await rest("PROPFIND", `/v1/${newId()}`), 404);

    const ok = { "torpor.outcome": "ok" };
    assertEquals(await valueOf(receiver, "torpor.sandbox.create.duration", { "torpor.tier": "cold", ...ok }), 1);
    assertEquals(await valueOf(receiver, "torpor.sandbox.pause.duration", ok), 1);
    const calls = (method: string, outcome: string) =>
      valueOf(receiver, "torpor.rpc.duration", {
        "rpc.method": `torpor.v1.SandboxService/${method}`,
        "torpor.outcome": outcome,
      });
    assertEquals(await calls("PauseSandbox", "ok"), 1);
    assertEquals(await calls("ExecStream", "sandbox_not_found"), 1);
    const requests = (route: string, method: string, status: string) =>
      valueOf(receiver, "torpor.api.request.duration", {
        "http.route": route,
        "http.request.method": method,
        "torpor.status_class": status,
      });
    assertEquals(await requests("/v1/sandboxes/{sandbox_id}", "GET", "2xx"), 1);
    assertEquals(await requests("/v1/sandboxes/{sandbox_id}", "GET", "4xx"), 1);
    assertEquals(await requests("(unknown path)", "_OTHER", "4xx"), 1);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("a host agent exports guest hooks, snapshots, stops of checkpoints and page faults", async () => {
  await using receiver = new MetricsReceiver();
  const home = await makeTestHome();
  const { cache, nativeDirectory } = testInstallation();
  const address = `unix:${home}/agent.sock`;
  try {
    await using _agent = await ServiceProcess.start("hostagent", receiver, {
      TORPOR_HOME: home,
      TORPOR_CACHE: cache,
      TORPOR_LIB_DIR: nativeDirectory,
      TORPOR_LISTEN: address,
      TORPOR_INTERNAL_TOKEN: "test-internal-token",
      TORPOR_SPARE_VMM: "off",
      TORPOR_NETWORK: "off",
    });
    using client = openTestClient(address);
    const { create, run } = sandboxHelpers(client);
    const sandboxId = await create();
    await run(sandboxId, "head -c 20000000 /dev/urandom > /root/junk; sync; rm /root/junk");
    const { stoppedUs } = await client.createSnapshot({ sandboxId, snapshotId: newId(), keepSandbox: true });
    const reclaim = { fstrimMs: 5000, syncMs: 5000, dropCachesMs: 5000, compactMemoryMs: 0 };
    const { snapshot } = await client.pauseSandbox({ sandboxId, reclaim });
    await client.resumeSandbox({ sandboxId });
    await run(sandboxId, "find / -xdev > /dev/null");
    await client.destroySandbox({ sandboxId });

    for (const step of ["fstrim", "sync", "drop_caches", "freeze"]) {
      const attributes = { "torpor.hook.step": step, "torpor.hook.outcome": "ok" };
      assertEquals(await valueOf(receiver, "torpor.guest.hook.runs", attributes), 1, step);
      assertEquals(await valueOf(receiver, "torpor.guest.hook.duration", attributes), 1, step);
    }
    assertGreater(await valueOf(receiver, "torpor.guest.reclaimed", { "torpor.hook.step": "fstrim" }), 20_000_000);
    const generation = { "torpor.snapshot.kind": "generation" };
    const dirty = await valueOf(receiver, "torpor.snapshot.dirty", generation);
    assertEquals(dirty, Number(snapshot!.pagesDirty) * 4096);
    const memory = { ...generation, "torpor.snapshot.part": "memory" };
    assertLessOrEqual(await valueOf(receiver, "torpor.snapshot.stored", memory), dirty * 1.1);
    await valueOf(receiver, "torpor.snapshot.stored", {
      "torpor.snapshot.kind": "kept",
      "torpor.snapshot.part": "disk",
    });
    await valueOf(receiver, "torpor.checkpoint.stop.duration", {});
    assertGreater(stoppedUs, 0n);
    for (const operation of ["create", "snapshot", "pause", "resume", "destroy"]) {
      const attributes = { "torpor.operation": operation, "torpor.outcome": "ok" };
      assertEquals(await valueOf(receiver, "torpor.host.operation.duration", attributes), 1, operation);
    }
    for (const phase of ["resume", "life"]) {
      assertEquals(await valueOf(receiver, "torpor.pager.fault.p99", { "torpor.phase": phase }), 1);
    }
    const faults = await valueOf(receiver, "torpor.pager.faults", {}, 100);
    const installed = await valueOf(receiver, "torpor.pager.installed", { "torpor.page.source": "generation" });
    assertGreater(installed, faults * 4096 / 2);
    await valueOf(receiver, "torpor.pager.read", { "torpor.page.source": "generation" });
  } finally {
    await Deno.remove(home, { recursive: true });
  }
});
