/** Memory of a VMM that maps a shared base privately: which pages are its own, and writing them out. @module */
import { check, invalidArgument } from "./errors.ts";
import { keepingAlive, native } from "./library.ts";
import { type ExportResult, pageBitmap, takeExportResult } from "./memory.ts";

const PUT_TARGET_BYTES = 40;

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

/** What an extent table says. Descriptors are borrowed until the call settles. */
export interface StoredPages {
  /** The extent header's bytes. */
  readonly header: Uint8Array;
  /** Source k of the header is sources[k]. */
  readonly sources: readonly number[];
  /** The pages that are meant. */
  readonly pages: Uint8Array<ArrayBuffer>;
}

/** The native form; `header` is a copy of its own: aligned, and not changed while the thread reads it. */
function nativeForm(operation: string, range: GuestRange, { header, sources, pages }: StoredPages) {
  if (pages.byteLength < pageBitmap(operation, range.sizeBytes).byteLength) {
    throw invalidArgument(operation, `pages has ${pages.byteLength} bytes, which are too few`);
  }
  return { header: new Uint8Array(header), sources: Int32Array.from(sources.length ? sources : [-1]) };
}

/**
 * Of some pages of a process's memory, those that are not what a table says.
 * @param stored.pages only pages that {@linkcode privatePages} has named, as for {@linkcode exportProcess}.
 * @throws {NativeError} `native_ebadmsg` for a broken header, `native_enodata` for a source that is too short.
 */
export async function compareProcess(range: GuestRange, stored: StoredPages): Promise<Uint8Array<ArrayBuffer>> {
  const { header, sources } = nativeForm("compareProcess", range, stored);
  const bitmap = pageBitmap("compareProcess", range.sizeBytes);
  const call = native().torpor_compare_process(
    range.pid,
    range.address,
    BigInt(range.sizeBytes),
    header,
    BigInt(header.byteLength),
    sources,
    stored.sources.length,
    stored.pages,
    bitmap,
  );
  check("compareProcess", await keepingAlive(call, header, sources, stored.pages, bitmap));
  return bitmap;
}

/**
 * Gives a process that maps a base privately pages of its own, with what a table says. It must not use its memory yet. Pages
 * of zeros take no memory.
 * @param uffd a userfaultfd of the process, registered for missing pages of the range; borrowed until the call settles.
 * @returns how many pages. After a failure some are there and some are not.
 * @throws {NativeError} as {@linkcode compareProcess}; `native_esrch` when the process is gone.
 */
export async function putPages(range: GuestRange, uffd: number, stored: StoredPages): Promise<number> {
  const { header, sources } = nativeForm("putPages", range, stored);
  const target = new DataView(new ArrayBuffer(PUT_TARGET_BYTES));
  target.setBigUint64(0, range.address, true);
  target.setBigUint64(8, BigInt(range.sizeBytes), true);
  target.setBigUint64(16, BigInt(header.byteLength), true);
  target.setUint32(24, stored.sources.length, true);
  target.setInt32(28, range.pid, true);
  target.setInt32(32, uffd, true);
  const call = native().torpor_put_pages(target.buffer, header, sources, stored.pages);
  return check("putPages", await keepingAlive(call, target, header, sources, stored.pages));
}
