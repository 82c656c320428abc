import { TorporError } from "@torpor/errors";
import type { Manifest } from "@torpor/snapshot";
import type { Layout } from "../storage/layout.ts";
import { readDiskTable, type VerifiedSnapshot } from "./committed.ts";
import type { VerifiedFile } from "./verify_data.ts";

/** A snapshot, and whose data its tables read. */
interface Reads {
  manifest: Pick<Manifest, "snapshot_id">;
  sources?: readonly string[];
  diskSources?: readonly string[];
}

/** What verifications have found damaged or missing, until one finds it good again. */
export class KnownDamage {
  readonly #files = new Map<string, VerifiedFile>();

  /** Takes what was found before this agent was started. */
  constructor(files: Iterable<VerifiedFile> = []) {
    for (const file of files) this.note(file);
  }

  get all(): VerifiedFile[] {
    return [...this.#files.values()];
  }

  get size(): number {
    return this.#files.size;
  }

  /** Takes a verdict. @returns whether something is known now that was not, or the other way round. */
  note(file: VerifiedFile): boolean {
    const key = `${file.snapshotId}/${file.file}`;
    if (file.verdict === "good") return this.#files.delete(key);
    if (file.verdict === "unchecked") return false;
    const isNew = this.#files.get(key)?.verdict !== file.verdict;
    this.#files.set(key, file);
    return isNew;
  }

  /** Forgets what was known of snapshots that are no longer there. @returns whether there was something. */
  forgetOthersThan(present: ReadonlySet<string>): boolean {
    let forgotten = false;
    for (const [key, { snapshotId }] of this.#files) {
      if (!present.has(snapshotId)) forgotten = this.#files.delete(key) || forgotten;
    }
    return forgotten;
  }

  /** The damage that a resume of a snapshot would meet: its own files, and the data that its tables read. */
  of({ manifest, sources = [], diskSources = [] }: Reads): VerifiedFile[] {
    return this.all.filter(({ snapshotId, file }) =>
      snapshotId === manifest.snapshot_id ||
      (file === "memory.data" && sources.includes(snapshotId)) ||
      (file.startsWith("disk.") && file !== "disk.header" && diskSources.includes(snapshotId))
    );
  }

  /**
   * Refuses a snapshot whose data is known to be damaged: nobody would notice that the guest reads wrong bytes. Files that
   * describe it are not asked about: a resume reads them in full.
   * @throws TorporError `snapshot_corrupt` naming the file.
   */
  async requireSoundData(layout: Layout, { manifest, table }: VerifiedSnapshot): Promise<void> {
    if (this.#files.size === 0) return;
    const diskSources = (await readDiskTable(layout, manifest))?.sources;
    const damaged = this.of({ manifest, sources: table.sources, diskSources }).find(isData);
    if (!damaged) return;
    throw new TorporError("snapshot_corrupt", `${damaged.file} of ${damaged.snapshotId} is ${damaged.verdict}`, {
      hint: "bring the file back, then verify the snapshot again (torpor snapshot inspect --verify)",
    });
  }
}

function isData({ file }: VerifiedFile): boolean {
  return file === "memory.data" || file === "disk.data" || file === "disk.raw";
}
