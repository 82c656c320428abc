import { assertEquals } from "@std/assert";
import { LazyControlCredentials } from "@torpor/certificates";
import { getSandbox, type SandboxRow, type SandboxSpec } from "@torpor/db";
import { HostClients, Lifecycle } from "@torpor/lifecycle";
import { ReconcilerService } from "@torpor/proto/reconciler";
import { openClient } from "@torpor/rpc";
import { eventually } from "@torpor/testing/hostagent";
import { openNetworkHosts } from "@torpor/testing/network_hosts";
import { startReconciler } from "../../../services/reconciler/start.ts";
import { startTlsScheduler, TOKEN } from "./tls_scheduler.ts";

const TEAM = "default";
const SPEC: SandboxSpec = {
  template: "base",
  vcpus: 1,
  memoryMb: 128,
  diskSizeMb: 512,
  timeoutSec: 0,
  autoDeleteAfterSec: 0,
  ttlSec: 0,
  onTtl: "pause",
  env: {},
  metadata: {},
  sourceSnapshotId: null,
  reclaim: null,
};

Deno.test("two hosts over mutual TLS: one is cut off, its sandbox is lost; joined again, it goes on where it was", async () => {
  await using stack = new AsyncDisposableStack();
  const network = stack.use(await openNetworkHosts(2));
  const scheduler = stack.use(await startTlsScheduler({ hostname: network.controlAddress }));
  await network.start(scheduler.client, scheduler.hostUrl);
  const { database } = scheduler.test;
  const { get: credentials } = stack.use(new LazyControlCredentials(database, TOKEN, "api"));
  const clients = stack.use(new HostClients(TOKEN, credentials));
  const lifecycle = stack.use(
    new Lifecycle({ database, scheduler: scheduler.client, hosts: (address) => clients.at(address) }),
  );
  const directory = await Deno.makeTempDir();
  stack.defer(() => Deno.remove(directory, { recursive: true }));
  const service = stack.use(
    await startReconciler({
      listen: { transport: "unix", path: `${directory}/reconciler.sock` },
      token: TOKEN,
      databaseUrl: scheduler.test.url,
      schedulerUrl: scheduler.url,
      intervalMs: 500,
      graceMs: 2_000,
      hostGraceMs: 3_000,
    }),
  );
  const reconciler = stack.use(openClient(ReconcilerService, { address: service.address, token: TOKEN }));
  const sandbox = async (id: string): Promise<SandboxRow> => (await getSandbox(database.sql, TEAM, id))!;
  const run = async ({ id, hostId }: SandboxRow, cmd: string): Promise<string> => {
    const { hosts } = await scheduler.client.listHosts({});
    const { address } = hosts.find((host) => host.hostId === hostId)!;
    const { stdout } = await clients.at(address).exec({ sandboxId: id, cmd, user: "root", timeoutSec: 60 });
    return new TextDecoder().decode(stdout).trim();
  };

  const made = [await lifecycle.createSandbox(TEAM, SPEC), await lifecycle.createSandbox(TEAM, SPEC)];
  assertEquals(new Set(made.map(({ hostId }) => hostId)).size, 2, "spread over both hosts");
  const { hosts } = await scheduler.client.listHosts({});
  const first = hosts.find(({ name }) => name === "host-1")!;
  const cut = made.find(({ hostId }) => hostId === first.hostId)!;
  const other = made.find(({ hostId }) => hostId !== first.hostId)!;
  await run(cut, "echo still here > /dev/shm/note");

  await network.setLink(0, "down");
  await eventually(async () => (await sandbox(cut.id)).state === "lost" || undefined, "the cut host's sandbox is lost");
  assertEquals((await scheduler.client.getHost({ host: "host-1" })).host!.state, "unreachable");
  assertEquals((await sandbox(other.id)).state, "running");
  // Nothing is placed on a host that is not heard, and what is lost is started nowhere else.
  const third = await lifecycle.createSandbox(TEAM, SPEC);
  assertEquals([third.hostId, (await sandbox(cut.id)).hostId], [other.hostId, cut.hostId]);

  await network.setLink(0, "up");
  await eventually(async () => (await sandbox(cut.id)).state === "running" || undefined, "it runs again");
  assertEquals(await run(await sandbox(cut.id), "cat /dev/shm/note"), "still here");
  // Its heartbeats come back a little later: an agent that could not send them tries more and more rarely.
  await eventually(async () => {
    const { host } = await scheduler.client.getHost({ host: "host-1" });
    return host?.state === "ready" || undefined;
  }, "the host is ready again");
  const { repairsByKind } = await reconciler.getStatus({});
  assertEquals([repairsByKind.orphan_destroyed, repairsByKind.vm_gone], [undefined, undefined]);
  for (const { id } of [...made, third]) assertEquals((await lifecycle.deleteSandbox(TEAM, id)).confirmed, true);
});
