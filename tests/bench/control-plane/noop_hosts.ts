/**
 * A process with host agents that have no VMs, so that only the control plane is measured. They keep the contract as far as
 * it is called here, over real sockets. Arguments: the directory of the sockets, the internal token, how many hosts, how many
 * running sandboxes each has from the start. Prints one line when all listen; ends with its stdin.
 */
import { newId } from "@torpor/ids";
import { HostAgentService } from "@torpor/proto/hostagent";
import { serve } from "@torpor/rpc";
import { chooseListing } from "../../../services/hostagent/rpc/list_sandboxes.ts";
import { ChangeLog } from "../../../services/hostagent/sandbox/change_log.ts";
import { hostId, sandboxId } from "./ids.ts";

interface NoopSandbox {
  id: string;
  status: "running" | "paused";
  version: bigint;
  generation: number;
  snapshotId: string;
  createdAtUnix: bigint;
}

const [directory, token, hosts, sandboxes] = [Deno.args[0]!, Deno.args[1]!, Number(Deno.args[2]), Number(Deno.args[3])];

/** A host agent's RPCs on a table in memory. */
async function startHost(number: number): Promise<AsyncDisposable> {
  const table = new Map<string, NoopSandbox>();
  const changes = new ChangeLog();
  const nowUnix = () => BigInt(Math.floor(Date.now() / 1000));
  const add = (id: string, version: bigint) =>
    table.set(id, { id, status: "running", version, generation: 0, snapshotId: "", createdAtUnix: nowUnix() });
  for (let n = 0; n < sandboxes; n++) add(sandboxId(number, n), 1n);
  const snapshotOf = ({ snapshotId, generation }: NoopSandbox) => ({
    ...{ snapshotId, generation, sizeBytes: 4096n, memoryBytes: 4096n, diskBytes: 0n },
    ...{ pagesResident: 1n, pagesDirty: 1n, pagesData: 1n, createdAtUnixMs: BigInt(Date.now()) },
  });
  return await serve({
    listen: { transport: "unix", path: `${directory}/host-${number}.sock` },
    token,
    routes: (router) =>
      router.service(HostAgentService, {
        createSandbox: (request) => {
          add(request.sandboxId, request.version);
          return { sandboxId: request.sandboxId, status: "running", accelerator: "tcg" };
        },
        pauseSandbox: (request) => {
          const sandbox = table.get(request.sandboxId)!;
          const { version } = request;
          const generation = sandbox.generation + 1;
          Object.assign(sandbox, { status: "paused", version, generation, snapshotId: newId() });
          return { snapshot: snapshotOf(sandbox) };
        },
        resumeSandbox: (request) => {
          Object.assign(table.get(request.sandboxId)!, { status: "running", version: request.version });
          return { sandboxId: request.sandboxId, status: "running", accelerator: "tcg" };
        },
        destroySandbox: (request) => {
          table.delete(request.sandboxId);
          return {};
        },
        listSandboxes: (request) => {
          changes.observe(table.values(), (one) => [one.id, [one.status, one.version, one.snapshotId]]);
          const { ids, ...listing } = chooseListing(request, table, changes);
          const listed = Array.from(ids, (id) => {
            const sandbox = table.get(id)!;
            const { status, version, createdAtUnix } = sandbox;
            const snapshot = sandbox.snapshotId === "" ? undefined : snapshotOf(sandbox);
            return { sandboxId: id, status, version, createdAtUnix, accelerator: "tcg", snapshot };
          });
          return { ...listing, hostId: hostId(number), sandboxes: listed };
        },
        listSnapshots: () => ({ snapshots: [] }),
      }),
  });
}

await using running = new AsyncDisposableStack();
for (let number = 0; number < hosts; number++) running.use(await startHost(number));
console.log("listening");
for await (const _ of Deno.stdin.readable);
