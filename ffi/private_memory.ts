/** Memory of a VMM that maps a shared base privately: which pages are its own, and writing them out. @module */
import { check, invalidArgument } from "./errors.ts";
import { keepingAlive, native } from "./library.ts";
import { type ExportResult, pageBitmap, takeExportResult } from "./memory.ts";

/** The guest's memory in a VMM's address space. */
export interface GuestRange {
  readonly pid: number;
  /** {@linkcode PagerStats.baseHostVirtAddr} */
  readonly address: bigint;
  readonly sizeBytes: number;
}

/** Pages of a private mapping that do not show what its file says; one bit each, least significant first. */
export interface PrivatePages {
  /** Written, or given to this process alone. */
  readonly own: Uint8Array<ArrayBuffer>;
  /** The kernel's page of zeros. Before Linux 6.7 they cannot be told from `own` and are there. */
  readonly zero: Uint8Array<ArrayBuffer>;
}

/** See {@linkcode PrivatePages}. Nothing has to be armed: the page table remembers. Needs the right to trace the process. */
export async function privatePages(range: GuestRange): Promise<PrivatePages> {
  const own = pageBitmap("privatePages", range.sizeBytes);
  const zero = pageBitmap("privatePages", range.sizeBytes);
  const size = BigInt(range.sizeBytes);
  const call = native().torpor_private_pages(range.pid, range.address, size, 0, own, zero);
  check("privatePages", await keepingAlive(call, own, zero));
  return { own, zero };
}

/**
 * Writes pages of a process's memory to a packed file, as {@linkcode exportMemory} does.
 * @param pages only pages that {@linkcode privatePages} has named: reading any other could wait for a pager. The vCPUs must be stopped.
 * @param output an empty file, open for writing; borrowed until the call settles.
 */
export async function exportProcess(
  range: GuestRange,
  pages: Uint8Array<ArrayBuffer>,
  output: number,
): Promise<ExportResult> {
  if (pages.byteLength < pageBitmap("exportProcess", range.sizeBytes).byteLength) {
    throw invalidArgument("exportProcess", `pages has ${pages.byteLength} bytes, which are too few`);
  }
  const result = new BigUint64Array(6);
  const size = BigInt(range.sizeBytes);
  const call = native().torpor_export_process(range.pid, range.address, size, pages, output, result);
  check("exportProcess", await keepingAlive(call, pages, result));
  return takeExportResult(result);
}
