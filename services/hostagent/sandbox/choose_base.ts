import type { Span } from "@opentelemetry/api";
import { type ExtentTable, PAGE_BYTES } from "@torpor/snapshot";
import { log } from "@torpor/telemetry";
import { dataPages, differentPages } from "../memory/different_pages.ts";
import { andInto, countBits } from "../memory/tracking/bitmap.ts";
import { readTable, type VerifiedSnapshot } from "../snapshot/committed.ts";
import { type HostContext, step } from "./context.ts";
import type { SandboxRecord } from "./record.ts";

/**
 * More than this is not copied before a guest goes on: it would wait 40 ms and longer, and 0.5 s when the data has to come
 * from a disk, to share what may be little.
 */
const MAX_DIFFERENCE_BYTES = 64 * 2 ** 20;

/** The base that a VM is to share. Disposing it lets its snapshot's files go. */
export interface ChosenBase extends Disposable {
  snapshotId: string;
  table: ExtentTable;
  /** Where a base can be started from; absent: the snapshot was deleted, and only a base that there still is can be joined. */
  files?: { headerPath: string; sourcePaths: string[] };
}

/**
 * Decides whether a VM shares what it does not write with others: one that is spawned, with all of its snapshot; one that
 * was spawned and paused, with those of the snapshot that it was spawned from, as long as there may be any.
 * @returns undefined when it gets copies of its own; the trace says why.
 */
export async function chooseBase(
  context: HostContext,
  record: SandboxRecord,
  snapshot: VerifiedSnapshot,
): Promise<ChosenBase | undefined> {
  const { bases, driver } = context;
  if (!bases?.enabled || !driver.capabilities.sharedBase) return undefined;
  const { manifest, table } = snapshot;
  if (manifest.kind === "kept") return startable(context, manifest.snapshot_id, table);
  const baseId = record.base_snapshot_id;
  if (baseId === null) return undefined;
  return await step(context, record.sandbox_id, "resume.choose_base", async (span) => {
    const base = await findBase(context, baseId);
    const reason = base ? reasonAgainst(table, base.table, span) : "base_gone";
    span.setAttributes({ "torpor.snapshot_id": baseId, "torpor.shared_base": reason ?? "joined" });
    if (!reason) return base;
    base?.[Symbol.dispose]();
    return undefined;
  });
}

/** Why the VM gets copies although there is a base. */
function reasonAgainst(table: ExtentTable, base: ExtentTable, span: Span): string | undefined {
  const pages = differentPages(table, base);
  andInto(pages, dataPages(table));
  const bytes = countBits(pages) * PAGE_BYTES;
  span.setAttribute("torpor.bytes", bytes);
  return bytes > MAX_DIFFERENCE_BYTES ? "difference_too_big" : undefined;
}

/** A snapshot's base, or what it can be started from. */
async function findBase(context: HostContext, snapshotId: string): Promise<ChosenBase | undefined> {
  const snapshot = context.kept.find(snapshotId);
  if (!snapshot) {
    const table = context.bases?.find(snapshotId)?.table;
    return table && { snapshotId, table, [Symbol.dispose]() {} };
  }
  using pinned = new DisposableStack();
  // It may be deleted, or its files be written anew, while the VM starts.
  pinned.use(context.references.pin(snapshot));
  try {
    const table = await readTable(context.layout, snapshot.manifest);
    return startable(context, snapshotId, table, pinned.move());
  } catch (error) {
    // The sandbox reads other files, or says so itself.
    log("warn", "base_unreadable", { snapshot_id: snapshotId }, error);
    return undefined;
  }
}

function startable(
  { layout }: HostContext,
  snapshotId: string,
  table: ExtentTable,
  pinned = new DisposableStack(),
): ChosenBase {
  const headerPath = layout.snapshot(snapshotId).memoryHeader;
  const sourcePaths = table.sources.map((source) => layout.snapshot(source).memoryData);
  return { snapshotId, table, files: { headerPath, sourcePaths }, [Symbol.dispose]: () => pinned.dispose() };
}
