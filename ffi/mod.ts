/**
 * Torpor's native layer: the system calls that sandboxes need and Deno does not offer, from libtorpor.so (sources in `src/`, built by
 * `make -C ffi`). Nothing else in the repository may call `Deno.dlopen`.
 *
 * Every failure is a {@linkcode NativeError} with a stable code. Descriptor numbers given to a function are borrowed until its call
 * (or promise) has settled; a {@linkcode Descriptor} that is returned is the caller's.
 * @module
 */
export { NativeError } from "./errors.ts";
export { type NativeFiles, nativeFiles, openLibrary } from "./library.ts";
export {
  Descriptor,
  type FileIdentity,
  fileIdentity,
  memfdCreate,
  openFile,
  type OpenFileOptions,
  openUserfaultfdDevice,
} from "./descriptor.ts";
export { allocatedBytes, fsync, fsyncPath, pread, preadSync, punchHole, pwrite, sizeBytes } from "./file.ts";
export {
  receiveDescriptors,
  type ReceivedMessage,
  type ReceiveOptions,
  sendDescriptors,
  socketPair,
  unixConnect,
  unixListen,
} from "./unix_socket.ts";
export { spawn, type SpawnOptions } from "./spawn.ts";
export {
  type Confinement,
  keepCapabilities,
  makeEmptyNetwork,
  makeRoot,
  shareLease,
  takeLease,
} from "./confinement.ts";
export { adoptProcess, Process, type ProcessIdentity, processStartTime } from "./process.ts";
export type { ExitStatus } from "./watcher.ts";
export {
  clearSoftDirty,
  compareDirty,
  type Comparison,
  exportMemory,
  type ExportOptions,
  type ExportResult,
  keepPresent,
  type MemoryRun,
  PAGE_SIZE,
  pagemapScanSupported,
  presentPages,
  scanDirty,
  softDirtyPages,
  softDirtySupported,
  type TrackedRange,
} from "./memory.ts";
export { type CopyRange, copyRanges, dataRuns, diffDisk, type DiskDiff, type DiskDiffOptions } from "./disk.ts";
export { exchange, fileCrc32c } from "./data_file.ts";
export { MemoryCopy, type MemoryCopyOptions } from "./memory_copy.ts";
export {
  compareProcess,
  exportProcess,
  type GuestRange,
  type PrivatePages,
  privatePages,
  putPages,
  type StoredPages,
} from "./private_memory.ts";
export { joinBase, type SiblingJoin } from "./base_pager.ts";
export { copySparse, type SparseCopyOptions, type SparseCopyResult } from "./sparse_copy.ts";
export { newNetworkNamespace, openTap, setNetworkSetting } from "./tap.ts";
export { tscKhz } from "./tsc.ts";
export { crc32c } from "./crc32c.ts";
export {
  PagerExit,
  type PagerState,
  type PagerStats,
  pagerStatsSize,
  readFaultOrder,
  readPagerStats,
  readRemovedPages,
} from "./pager_stats.ts";
