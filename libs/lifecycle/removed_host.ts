import { create } from "@bufbuild/protobuf";
import { type Database, getHost } from "@torpor/db";
import { asTorporError, TorporError } from "@torpor/errors";
import { DeleteSnapshotResponseSchema, DestroySandboxResponseSchema } from "@torpor/proto/hostagent";
import type { HostClient } from "./host_clients.ts";
import type { Held, Outcome } from "./journal.ts";
import { stateAroundSnapshot } from "./states.ts";

/**
 * The client of a host by its id. A host that was removed is not called: it confirms deletes at once, as nobody can reach
 * what is there, and refuses everything else as `host_removed` (see {@linkcode outcomeOnRemovedHost}).
 */
export async function hostClientOf(
  database: Database,
  hosts: (address: string) => HostClient,
  hostId: string,
): Promise<HostClient> {
  const host = await getHost(database.sql, hostId);
  if (!host) throw new TorporError("internal", `host ${hostId} has no row`);
  return host.removedAt === null ? hosts(host.address) : removedHost(hostId);
}

function removedHost(hostId: string): HostClient {
  const gone = () => Promise.reject(new TorporError("host_removed", `host ${hostId} was removed`));
  const answers: Partial<HostClient> = {
    destroySandbox: () => Promise.resolve(create(DestroySandboxResponseSchema)),
    deleteSnapshot: () => Promise.resolve(create(DeleteSnapshotResponseSchema)),
  };
  // Every other call is answered alike.
  return new Proxy(answers as HostClient, {
    get: (known, name) => known[name as keyof HostClient] ?? (name === "then" ? undefined : gone),
  });
}

/**
 * What an operation has come to when its host was removed: the sandbox is lost, and its data waits on that host. Only a
 * sandbox that was never known to run has failed.
 * @returns undefined when `thrown` is about something else.
 */
export function outcomeOnRemovedHost({ sandbox, operation }: Held, thrown: unknown): Outcome | undefined {
  const { code, message } = asTorporError(thrown);
  if (code !== "host_removed") return undefined;
  const lost = { changes: { reason: code }, error: { code, message } };
  switch (operation.kind) {
    case "create":
      return { ...lost, path: ["failed"] };
    case "pause":
      return { ...lost, path: ["lost"] };
    case "resume":
      return { ...lost, path: ["paused", "lost"] };
    case "snapshot":
      return { ...lost, path: stateAroundSnapshot(sandbox) === "paused" ? ["paused", "lost"] : ["lost"] };
    case "delete":
      return undefined;
  }
}
