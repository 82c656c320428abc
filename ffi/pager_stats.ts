/** What a pager tells about itself (layout: include/pager_stats.h). @module */
import { invalidArgument } from "./errors.ts";
import { preadSync } from "./file.ts";
import { native } from "./library.ts";

const HEADER_BYTES = 1088;
const MAGIC = 0x53505250524f54n;
const VERSION = 2;
const COUNTED_SOURCES = 64;
const LATENCY_BUCKETS = 40;
const states = ["starting", "waiting", "serving", "stopped", "failed"] as const;

/** What a pager is doing; `starting` also before it wrote anything. */
export type PagerState = typeof states[number];

/** Exit status of torpor-pager. */
export const PagerExit = { ok: 0, usage: 2, header: 3, source: 4, userfaultfd: 5, read: 6 } as const;

/** A pager's counters. Times are CLOCK_MONOTONIC nanoseconds. */
export interface PagerStats {
  readonly state: PagerState;
  /** {@linkcode PagerExit} after `failed`. */
  readonly error: number;
  readonly errno: number;
  readonly memoryBytes: number;
  /** Address of the guest's first memory region in the VMM, 0 before the handshake. */
  readonly baseHostVirtAddr: bigint;
  /** Number of the userfaultfd in the VMM, null if it did not say. */
  readonly uffdFd: number | null;
  /** Whether pages are installed write-protected for {@linkcode scanDirty}. */
  readonly tracking: boolean;
  readonly pid: number;
  /** Pagers that served this VMM before this one. */
  readonly adoptions: number;
  readonly faults: number;
  readonly dataPagesServed: number;
  readonly zeroPagesServed: number;
  /** Of the pages served, those around the one that faulted. */
  readonly faultAroundPages: number;
  readonly removes: number;
  readonly removedPages: number;
  readonly eexist: number;
  readonly eagain: number;
  /** 0n before the first fault. */
  readonly firstFaultNs: bigint;
  readonly lastFaultNs: bigint;
  /** Distinct pages that faulted in the first 300 ms: length of {@linkcode readFaultOrder}. */
  readonly orderCount: number;
  /** Per source of the header; the last of the 65 sums all beyond the first 64. */
  readonly bytesRead: readonly number[];
  /** [k]: faults that took 2^k to 2^(k+1) ns from reading the event to having the page installed. */
  readonly latency: readonly number[];
  /** Pages of the working set, and those around them, that were installed before anybody asked for them. */
  readonly prefetchedPages: number;
  /** When all of the working set was there; 0n before that, and without one. */
  readonly prefetchEndNs: bigint;
  /** Of the faults, those that were answered with zeros. */
  readonly zeroFaults: number;
}

/** Bytes of the memfd to create for a guest of `memoryBytes`; it is sparse. */
export function pagerStatsSize(memoryBytes: number): number {
  return Number(native().torpor_pager_stats_size(BigInt(memoryBytes)));
}

function readHeader(fd: number): DataView {
  const bytes = new Uint8Array(HEADER_BYTES);
  const length = preadSync(fd, bytes, 0);
  const view = new DataView(bytes.buffer);
  const magic = view.getBigUint64(0, true);
  if (length !== HEADER_BYTES || (magic && (magic !== MAGIC || view.getUint32(8, true) !== VERSION))) {
    throw invalidArgument("readPagerStats", "not the statistics of a pager of this version");
  }
  return view;
}

/** Reads the counters; a pager that has not started yet has all of them zero. `fd` is borrowed. */
export function readPagerStats(fd: number): PagerStats {
  const view = readHeader(fd);
  const u32 = (at: number) => view.getUint32(at, true);
  const u64 = (at: number) => view.getBigUint64(at, true);
  const number = (at: number) => Number(u64(at));
  const uffdFd = view.getInt32(76, true);
  return {
    state: states[u32(64)] ?? "failed",
    error: u32(68),
    errno: view.getInt32(72, true),
    memoryBytes: number(16),
    baseHostVirtAddr: u64(56),
    uffdFd: u64(0) && uffdFd >= 0 ? uffdFd : null,
    tracking: u32(80) !== 0,
    pid: u32(88),
    adoptions: u32(92),
    faults: number(96),
    dataPagesServed: number(104),
    zeroPagesServed: number(112),
    faultAroundPages: number(120),
    removes: number(128),
    removedPages: number(136),
    eexist: number(144),
    eagain: number(152),
    firstFaultNs: u64(160),
    lastFaultNs: u64(168),
    orderCount: number(176),
    bytesRead: Array.from({ length: COUNTED_SOURCES + 1 }, (_, k) => number(184 + 8 * k)),
    latency: Array.from({ length: LATENCY_BUCKETS }, (_, k) => number(704 + 8 * k)),
    prefetchedPages: number(1024),
    prefetchEndNs: u64(1032),
    zeroFaults: number(1040),
  };
}

/** Page numbers in the order of their first fault, of the first 300 ms after a resume: the working set. */
export function readFaultOrder(fd: number): Uint32Array<ArrayBuffer> {
  const view = readHeader(fd);
  const order = new Uint32Array(Number(view.getBigUint64(176, true)));
  preadSync(fd, new Uint8Array(order.buffer), Number(view.getBigUint64(32, true)));
  return order;
}

/**
 * Pages that the guest gave back since it was resumed (one bit per page, least significant first). They are zero from then on and
 * belong to the next diff, as much as the written ones.
 */
export function readRemovedPages(fd: number): Uint8Array<ArrayBuffer> {
  const view = readHeader(fd);
  const removed = new Uint8Array(Math.ceil(Number(view.getBigUint64(24, true)) / 8));
  preadSync(fd, removed, Number(view.getBigUint64(40, true)));
  return removed;
}
