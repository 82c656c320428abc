import { create } from "@bufbuild/protobuf";
import { type Database, getHost } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import {
  DeleteSnapshotResponseSchema,
  DestroySandboxResponseSchema,
  ListSnapshotsResponseSchema,
} from "@torpor/proto/hostagent";
import type { HostClient } from "./host_clients.ts";

/**
 * The client of a host by its id. A host that was removed is not called: it answers as one that has nothing, so that
 * what was there is deleted at once, and operations that were under way there end.
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
  const gone = () => Promise.reject(new TorporError("host_not_found", `host ${hostId} was removed`));
  const answers: Partial<HostClient> = {
    destroySandbox: () => Promise.resolve(create(DestroySandboxResponseSchema)),
    deleteSnapshot: () => Promise.resolve(create(DeleteSnapshotResponseSchema)),
    listSnapshots: () => Promise.resolve(create(ListSnapshotsResponseSchema)),
  };
  // Every other call is answered alike.
  return new Proxy(answers as HostClient, {
    get: (known, name) => known[name as keyof HostClient] ?? (name === "then" ? undefined : gone),
  });
}
