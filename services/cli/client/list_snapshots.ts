import type { Snapshot } from "@torpor/proto/torpor";
import type { Api } from "./api.ts";

/** The snapshots that the caller may spawn from, page by page, newest first. */
export async function* listSnapshots(api: Api): AsyncIterable<Snapshot> {
  let cursor = "";
  do {
    const page = await api.snapshots.listSnapshots({ cursor, pageSize: 500 });
    yield* page.snapshots;
    cursor = page.nextCursor;
  } while (cursor !== "");
}
