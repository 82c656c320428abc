/** Guest memory: which pages changed, and writing them out. Bitmaps have one bit per page, least significant bit first. @module */
import { check, invalidArgument } from "./errors.ts";
import { keepingAlive, native } from "./library.ts";

/** Bytes of a page. */
export const PAGE_SIZE = 4096;

/** An empty bitmap for memory of this size. @internal */
export function pageBitmap(operation: string, sizeBytes: number): Uint8Array<ArrayBuffer> {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0 || sizeBytes % PAGE_SIZE) {
    throw invalidArgument(operation, "sizeBytes is no positive multiple of the page size");
  }
  return new Uint8Array(Math.ceil(sizeBytes / PAGE_SIZE / 8));
}

/**
 * Whether this kernel (Linux 6.7 or later) tells written pages exactly. Tried on memory of our own: a kernel without it may report
 * nothing and no error. Throws when userfaultfd itself cannot be had (`native_eperm`, `native_eacces`).
 */
export function pagemapScanSupported(): boolean {
  return check("pagemapScanSupported", native().torpor_pagemap_scan_supported()) === 1;
}

/** A tracked range of a VMM's address space: what the shim registered with `TORPOR_SHIM_TRACK=1`. */
export interface TrackedRange {
  readonly pid: number;
  /** Address of the guest's memory in the VMM ({@linkcode PagerStats.baseHostVirtAddr}). */
  readonly address: bigint;
  readonly sizeBytes: number;
  /** Arms the reported pages again in the same step, for the next round of a live checkpoint. */
  readonly protect?: boolean;
  /** The memory file: pages that are holes of it are left out, as one that was never loaded may count as written. */
  readonly memfd?: number;
}

/**
 * Pages written since the range was armed. The VM must be stopped, and its device state saved already: saving writes to guest memory.
 * Writes by other processes (host pwrite into the memfd) are not seen. `native_eperm` when the range is not tracked.
 */
export async function scanDirty(range: TrackedRange): Promise<Uint8Array<ArrayBuffer>> {
  const bitmap = pageBitmap("scanDirty", range.sizeBytes);
  const size = BigInt(range.sizeBytes);
  const { pid, address, protect = false, memfd = -1 } = range;
  const call = native().torpor_scan_dirty(pid, address, size, protect ? 1 : 0, memfd, bitmap);
  check("scanDirty", await keepingAlive(call, bitmap));
  return bitmap;
}

/**
 * Pages that take memory in the memfd: loaded or written, and not given back. A written page is always among them. The
 * descriptor is borrowed until the call settles.
 */
export async function presentPages(memfd: number, sizeBytes: number): Promise<Uint8Array<ArrayBuffer>> {
  const bitmap = pageBitmap("presentPages", sizeBytes);
  const call = native().torpor_present_pages(memfd, BigInt(sizeBytes), bitmap);
  check("presentPages", await keepingAlive(call, bitmap));
  return bitmap;
}

/** Clears the bits of `pages` that are holes of the memfd. Faster than {@linkcode presentPages} when there are few. */
export async function keepPresent(memfd: number, sizeBytes: number, pages: Uint8Array<ArrayBuffer>): Promise<void> {
  if (pages.byteLength < pageBitmap("keepPresent", sizeBytes).byteLength) {
    throw invalidArgument("keepPresent", `pages has only ${pages.byteLength} bytes`);
  }
  check("keepPresent", await keepingAlive(native().torpor_keep_present(memfd, BigInt(sizeBytes), pages), pages));
}

/**
 * Whether this kernel marks written pages in page tables (CONFIG_MEM_SOFT_DIRTY). Tried in a child: a kernel without it reports
 * nothing and no error.
 */
export function softDirtySupported(): boolean {
  return check("softDirtySupported", native().torpor_soft_dirty_supported()) === 1;
}

/** Clears the marks of a process. */
export async function clearSoftDirty(pid: number): Promise<void> {
  check("clearSoftDirty", await native().torpor_clear_soft_dirty(pid));
}

/** Pages that were written or loaded since {@linkcode clearSoftDirty}, and pages whose marks the kernel may have dropped. */
export async function softDirtyPages(range: Omit<TrackedRange, "protect">): Promise<Uint8Array<ArrayBuffer>> {
  const bitmap = pageBitmap("softDirtyPages", range.sizeBytes);
  const call = native().torpor_soft_dirty_pages(range.pid, range.address, BigInt(range.sizeBytes), bitmap);
  check("softDirtyPages", await keepingAlive(call, bitmap));
  return bitmap;
}

/** A memfd and the snapshot that it was lazily loaded from. Descriptors are borrowed until the call settles. */
export interface Comparison {
  readonly memfd: number;
  readonly sizeBytes: number;
  /** The extent header's bytes. */
  readonly header: Uint8Array;
  /** Source k of the header is sources[k]. */
  readonly sources: readonly number[];
  /** Only these pages are looked at; absent: all. */
  readonly candidates?: Uint8Array<ArrayBuffer>;
}

/**
 * Pages that are present in the memfd and differ from the snapshot, for kernels without {@linkcode scanDirty}. Pages that the guest
 * gave back are holes and not among them: add the pager's `removed` bitmap.
 *
 * @throws {NativeError} `native_ebadmsg` for a broken header, `native_enodata` for a source that is too short
 */
export async function compareDirty(comparison: Comparison): Promise<Uint8Array<ArrayBuffer>> {
  const bitmap = pageBitmap("compareDirty", comparison.sizeBytes);
  const header = new Uint8Array(comparison.header); // own copy: aligned, and not changed while the thread reads it
  const candidates = comparison.candidates ?? null;
  if (candidates && candidates.byteLength < bitmap.byteLength) {
    throw invalidArgument("compareDirty", `candidates has ${candidates.byteLength} bytes, not ${bitmap.byteLength}`);
  }
  const sources = Int32Array.from(comparison.sources.length ? comparison.sources : [-1]);
  const call = native().torpor_compare_dirty(
    comparison.memfd,
    BigInt(comparison.sizeBytes),
    header,
    BigInt(header.byteLength),
    sources,
    comparison.sources.length,
    candidates,
    bitmap,
  );
  check("compareDirty", await keepingAlive(call, header, sources, candidates, bitmap));
  return bitmap;
}

/** Consecutive pages that were exported alike. */
export interface MemoryRun {
  readonly pageIndex: number;
  readonly pageCount: number;
  /** `zero` pages are listed, but not stored. */
  readonly kind: "data" | "zero";
  /** Bytes from the start of the output; 0 for zero pages. */
  readonly outputOffset: number;
}

export interface ExportOptions {
  readonly memfd: number;
  readonly sizeBytes: number;
  /** Pages to export; null: all of them, holes as zero pages. */
  readonly dirty: Uint8Array<ArrayBuffer> | null;
  /** An empty file, open for writing; written from its start. */
  readonly output: number;
}

export interface ExportResult {
  /** Sorted by page, neighbours merged. */
  readonly runs: MemoryRun[];
  readonly bytesWritten: number;
  readonly dataPages: number;
  readonly zeroPages: number;
  /** CRC-32C of the output. */
  readonly crc32c: number;
}

const RUN_FIELDS = 4;

/** The six fields of a native result, whose runs are freed. @internal */
export function takeExportResult(fields: BigUint64Array): ExportResult {
  const [runs, runCount, bytesWritten, dataPages, zeroPages, crc32c] = fields;
  return {
    runs: takeRuns(runs!, Number(runCount!)),
    bytesWritten: Number(bytesWritten!),
    dataPages: Number(dataPages!),
    zeroPages: Number(zeroPages!),
    crc32c: Number(crc32c!),
  };
}

/** The runs of a native result, which is freed. */
export function takeRuns(address: bigint, count: number): MemoryRun[] {
  const pointer = Deno.UnsafePointer.create(address);
  if (!pointer) return [];
  try {
    // A copy: the native array is freed below.
    const buffer = Deno.UnsafePointerView.getArrayBuffer(pointer, count * RUN_FIELDS * 8).slice(0);
    const fields = new BigUint64Array(buffer);
    return Array.from({ length: count }, (_, i) => ({
      pageIndex: Number(fields[i * RUN_FIELDS]!),
      pageCount: Number(fields[i * RUN_FIELDS + 1]!),
      kind: fields[i * RUN_FIELDS + 2]! ? "data" as const : "zero" as const,
      outputOffset: Number(fields[i * RUN_FIELDS + 3]!),
    }));
  } finally {
    native().torpor_free(pointer);
  }
}

/**
 * Writes pages of the memfd to a packed file: only pages that are not zero, one after the other. A page that is a hole, or all zero,
 * is listed as zero. The memfd is never mapped, so no hole is filled. The output is not synced. Descriptors are borrowed until the
 * call settles. After a failure (`native_enospc`, `native_efbig`, …) the output holds a part.
 */
export async function exportMemory(options: ExportOptions): Promise<ExportResult> {
  const bitmap = pageBitmap("exportMemory", options.sizeBytes);
  if (options.dirty && options.dirty.byteLength < bitmap.byteLength) {
    throw invalidArgument("exportMemory", `dirty has ${options.dirty.byteLength} bytes, not ${bitmap.byteLength}`);
  }
  const result = new BigUint64Array(6);
  const call = native().torpor_export_memory(
    options.memfd,
    BigInt(options.sizeBytes),
    options.dirty,
    options.output,
    result,
  );
  check("exportMemory", await keepingAlive(call, options.dirty, result));
  return takeExportResult(result);
}
