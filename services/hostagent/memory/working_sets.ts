import { decodeWorkingSet, encodeWorkingSet, mergeWorkingSets } from "@torpor/snapshot";
import { dirname } from "@std/path";
import { log } from "@torpor/telemetry";
import type { Layout } from "../storage/layout.ts";

/**
 * Pages at most, each standing for the 64 KiB around it: 24 MiB. A resumed guest takes some 400 until its first command
 * has run.
 */
const MAX_PAGES = 384;

/** What decides where a booted guest's kernel and agent lie in its memory. */
export interface BootShape {
  baseImage: string;
  vcpus: number;
  memoryMb: number;
}

/**
 * The pages to fetch ahead when a snapshot is resumed: those of its own earlier resumes, else those of another guest that
 * was booted alike, whose kernel and agent lie at the same place.
 */
export async function findWorkingSet(
  layout: Layout,
  snapshotId: string,
  shape: BootShape,
): Promise<{ path: string; pages: Uint32Array } | undefined> {
  for (const path of [layout.snapshot(snapshotId).workingSet, shapePath(layout, shape)]) {
    const pages = await read(path, shape.memoryMb);
    if (pages) return { path, pages };
  }
}

/** The working set after a resume. @param faulted see readFaultOrder. @param fetched what was fetched ahead. */
export function nextWorkingSet(faulted: Uint32Array, fetched: Uint32Array | undefined): Uint32Array {
  return mergeWorkingSets(faulted, fetched ?? new Uint32Array(), MAX_PAGES);
}

/** Keeps a snapshot's working set. It is only advice: what goes wrong is logged. */
export async function keepWorkingSet(path: string, pages: Uint32Array, memoryMb: number): Promise<void> {
  try {
    const temporary = `${path}.new`;
    await Deno.writeFile(temporary, encodeWorkingSet(pages, memoryMb * 2 ** 20), { mode: 0o600 });
    await Deno.rename(temporary, path);
  } catch (error) {
    // Its snapshot may have been deleted meanwhile.
    if (!(error instanceof Deno.errors.NotFound)) log("warn", "working_set_not_kept", { path }, error);
  }
}

/** Keeps the working set of a booted guest's first resume for guests that are booted alike. */
export async function keepShapeWorkingSet(layout: Layout, shape: BootShape, pages: Uint32Array): Promise<void> {
  const path = shapePath(layout, shape);
  await Deno.mkdir(dirname(path), { recursive: true });
  await keepWorkingSet(path, pages, shape.memoryMb);
}

function shapePath(layout: Layout, { baseImage, vcpus, memoryMb }: BootShape): string {
  return layout.workingSet(`${baseImage}-${vcpus}-${memoryMb}`);
}

async function read(path: string, memoryMb: number): Promise<Uint32Array | undefined> {
  try {
    return decodeWorkingSet(await Deno.readFile(path), memoryMb * 2 ** 20);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) log("warn", "working_set_unreadable", { path }, error);
    return undefined;
  }
}
