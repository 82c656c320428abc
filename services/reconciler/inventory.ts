import { getInventoryRows, type HostRow, type IdRange, type InventoryRow, listInventoryRows } from "@torpor/db";
import type { Database } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import type { HostClient } from "@torpor/lifecycle";
import type { ListSandboxesRequestSchema, ListSandboxesResponse, SandboxInfo } from "@torpor/proto/hostagent";
import type { MessageInitShape } from "@bufbuild/protobuf";

/** A host agent lists from memory, ms. */
const LIST_TIMEOUT_MS = 5_000;

/** Sandboxes of a page when everything of a host is compared. Many hosts are at the same time, each with one in memory. */
const COMPLETE_PAGE = 500;

/** What a host says of some of its sandboxes, and what the database says of the same. */
export interface Comparison {
  /** Ids that were asked about, on either side. */
  ids: Set<string>;
  infos: Map<string, SandboxInfo>;
  /** Read after the host was asked. */
  rows: Map<string, InventoryRow>;
  autoPausedIds: string[];
}

/** What to ask a host. */
export type Question = Omit<MessageInitShape<typeof ListSandboxesRequestSchema>, "$typeName">;

/**
 * Asks a host for a part of its inventory.
 * @throws what the call throws; `host_unreachable` when another agent answers at its address.
 */
export async function ask(client: HostClient, host: HostRow, question: Question): Promise<ListSandboxesResponse> {
  const list = await client.listSandboxes(question, { timeoutMs: LIST_TIMEOUT_MS });
  // Another agent at this address has other sandboxes: by its list all of this host's would be gone.
  if (list.hostId === host.id) return list;
  throw new TorporError("host_unreachable", `host ${list.hostId} answers at the address of host ${host.id}`);
}

/**
 * The whole inventory of a host, in pages.
 * @param compare is called for each page; the first has also what `first` says beside it.
 */
export async function forEachPage(
  client: HostClient,
  host: HostRow,
  compare: (list: ListSandboxesResponse, range: IdRange) => Promise<void>,
): Promise<void> {
  for (let after = "";;) {
    const list = await ask(client, host, { pageSize: COMPLETE_PAGE, pageAfterId: after });
    await compare(list, { after, end: list.pageEndId });
    if (list.pageEndId === "") return;
    after = list.pageEndId;
  }
}

/** Reads the database's side of what a host has answered. */
export async function compareWith(
  database: Database,
  host: HostRow,
  list: ListSandboxesResponse,
  asked: readonly string[],
  range: IdRange | undefined,
): Promise<Comparison> {
  const infos = new Map(list.sandboxes.map((info) => [info.sandboxId, info]));
  const ids = new Set([...asked, ...infos.keys(), ...list.removedSandboxIds]);
  const [named, inRange] = await Promise.all([
    getInventoryRows(database.sql, [...ids]),
    range ? listInventoryRows(database.sql, host.id, range) : [],
  ]);
  const rows = new Map([...inRange, ...named].map((row) => [row.id, row]));
  for (const id of rows.keys()) ids.add(id);
  return { ids, infos, rows, autoPausedIds: list.autoPausedSandboxIds };
}
