import type { MessageInitShape } from "@bufbuild/protobuf";
import { TorporError } from "@torpor/errors";
import type { ListSandboxesRequest, ListSandboxesResponseSchema, ListSnapshotsRequest } from "@torpor/proto/hostagent";
import type { ChangeLog } from "../sandbox/change_log.ts";

const MAX_PAGE_SIZE = 10_000;

/** What a caller wants listed. */
export type Question = Pick<
  ListSandboxesRequest,
  "epoch" | "sinceRevision" | "sandboxIds" | "pageSize" | "pageAfterId"
>;

/** The same about snapshots, which are not listed in pages. */
export function questionOfSnapshots({ epoch, sinceRevision, snapshotIds }: ListSnapshotsRequest): Question {
  return { epoch, sinceRevision, sandboxIds: snapshotIds, pageSize: 0, pageAfterId: "" };
}

/** Which sandboxes an answer has: ids in no order, and what it says beside them. */
export type Listing =
  & { ids: Iterable<string> }
  & Pick<
    MessageInitShape<typeof ListSandboxesResponseSchema>,
    "epoch" | "revision" | "changesComplete" | "removedSandboxIds" | "pageEndId"
  >;

/**
 * Chooses what ListSandboxes answers with.
 * @param present the ids of all sandboxes.
 * @param changes has looked at them just before.
 * @throws TorporError `invalid_argument`.
 */
export function chooseListing(
  request: Question,
  present: { keys(): Iterable<string>; has(id: string): boolean; size: number },
  changes: ChangeLog,
): Listing {
  const { epoch, pageSize } = request;
  const position = { epoch: changes.epoch, revision: changes.revision };
  if (pageSize < 0 || pageSize > MAX_PAGE_SIZE) {
    throw new TorporError("invalid_argument", `page_size must be from 0 to ${MAX_PAGE_SIZE}`, { field: "page_size" });
  }
  if (epoch === "" && pageSize === 0) return { ...position, ids: present.keys(), changesComplete: true };
  const since = changes.since(epoch, request.sinceRevision);
  const page = pageSize === 0 ? [] : pageOf(present.keys(), request.pageAfterId, pageSize + 1);
  const more = page.length > pageSize && pageSize > 0;
  if (more) page.pop();
  const wanted = new Set([...since.ids, ...request.sandboxIds, ...page]);
  return {
    ...position,
    ids: [...wanted].filter((id) => present.has(id)),
    changesComplete: since.complete,
    removedSandboxIds: [...since.ids].filter((id) => !present.has(id)),
    pageEndId: more ? page.at(-1)! : "",
  };
}

/** The first ids after `after`: ids are ASCII, so comparing them as text compares bytes, as the database does. */
function pageOf(ids: Iterable<string>, after: string, length: number): string[] {
  const page: string[] = [];
  for (const id of ids) if (id > after) page.push(id);
  return page.sort().slice(0, length);
}
