import { type ExtentKind, type ExtentTable, sourceUsage } from "@torpor/snapshot";
import type { FoundSnapshot } from "./sweep.ts";

/** When copying together is worth it. */
export interface CompactionLimits {
  /** Below this share of live bytes a data file is rewritten. */
  liveShare: number;
  /** Bytes that must be saved at least. */
  minSavedBytes: number;
  /** A table with more sources is given fewer: each costs the pager a descriptor. */
  maxSources: number;
}

/** The limits of a deployment. */
export const COMPACTION_LIMITS: CompactionLimits = { liveShare: 0.5, minSavedBytes: 16 * 2 ** 20, maxSources: 64 };

/** A snapshot that rests, and its table. */
export interface Reader {
  snapshot: FoundSnapshot;
  table: ExtentTable;
}

/** Sources that are to become one file, and everybody who reads them. */
export interface CompactionGroup {
  kind: ExtentKind;
  victims: Set<string>;
  readers: Reader[];
  /** Bytes that it saves, by victim. */
  savedBytes: Map<string, number>;
}

/**
 * Chooses what to copy together.
 * @param readers all snapshots at rest. @param storedBytes what each source stores.
 * @param untouchable sources that others read as well, or that must stay for another reason.
 */
export function chooseCompactions(
  kind: ExtentKind,
  readers: readonly Reader[],
  storedBytes: ReadonlyMap<string, number>,
  untouchable: ReadonlySet<string>,
  limits: CompactionLimits,
): CompactionGroup[] {
  const victims = new Map<string, number>();
  for (const [source, { liveBytes }] of sourceUsage(readers.map(({ table }) => table))) {
    const stored = storedBytes.get(source) ?? 0;
    const saved = stored - liveBytes;
    if (liveBytes < limits.liveShare * stored && saved >= limits.minSavedBytes) victims.set(source, saved);
  }
  for (const source of longChains(readers, limits.maxSources)) victims.set(source, victims.get(source) ?? 0);
  for (const source of untouchable) victims.delete(source);
  return groups(kind, readers, victims);
}

/** Sources of tables that have too many, unless other tables read them too: those would be stored twice. */
function longChains(readers: readonly Reader[], maxSources: number): Set<string> {
  const counts = new Map<string, number>();
  for (const { table } of readers) {
    for (const source of table.sources) counts.set(source, (counts.get(source) ?? 0) + 1);
  }
  const chosen = new Set<string>();
  for (const { table } of readers) {
    if (table.sources.length <= maxSources) continue;
    for (const source of table.sources) if (counts.get(source) === 1) chosen.add(source);
  }
  return chosen;
}

/** Snapshots that have nothing in common do not get a file in common: it would live as long as either of them. */
function groups(kind: ExtentKind, readers: readonly Reader[], victims: ReadonlyMap<string, number>): CompactionGroup[] {
  const result: CompactionGroup[] = [];
  for (const reader of readers) {
    const own = reader.table.sources.filter((source) => victims.has(source));
    if (own.length === 0) continue;
    const group: CompactionGroup = { kind, victims: new Set(own), readers: [reader], savedBytes: new Map() };
    for (const other of result.filter((each) => own.some((source) => each.victims.has(source)))) {
      result.splice(result.indexOf(other), 1);
      for (const source of other.victims) group.victims.add(source);
      group.readers.unshift(...other.readers);
    }
    result.push(group);
  }
  for (const group of result) {
    for (const source of group.victims) group.savedBytes.set(source, victims.get(source)!);
  }
  return result;
}
