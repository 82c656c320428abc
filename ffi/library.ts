/** Loading libtorpor.so: the only `Deno.dlopen` of the project. @module */
import { NativeError } from "./errors.ts";

const symbols = {
  torpor_abi_version: { parameters: [], result: "i32" },
  torpor_memfd_create: { parameters: ["buffer", "u64"], result: "i32" },
  torpor_open: { parameters: ["buffer", "u32", "u32"], result: "i32" },
  torpor_close: { parameters: ["i32"], result: "i32" },
  torpor_duplicate: { parameters: ["i32"], result: "i32" },
  torpor_fsync: { parameters: ["i32"], result: "i32", nonblocking: true },
  torpor_fsync_path: { parameters: ["buffer"], result: "i32", nonblocking: true },
  torpor_pread: { parameters: ["i32", "buffer", "u64", "u64"], result: "i64", nonblocking: true },
  torpor_pread_now: { name: "torpor_pread", parameters: ["i32", "buffer", "u64", "u64"], result: "i64" },
  torpor_pwrite: { parameters: ["i32", "buffer", "u64", "u64"], result: "i64", nonblocking: true },
  torpor_size_bytes: { parameters: ["i32"], result: "i64" },
  torpor_allocated_bytes: { parameters: ["i32"], result: "i64" },
  torpor_punch_hole: { parameters: ["i32", "u64", "u64"], result: "i32" },
  torpor_identity: { parameters: ["i32", "buffer"], result: "i32" },
  torpor_open_userfaultfd_device: { parameters: [], result: "i32" },
  torpor_free: { parameters: ["pointer"], result: "void" },
  torpor_socket_pair: { parameters: ["buffer"], result: "i32" },
  torpor_unix_connect: { parameters: ["buffer"], result: "i32" },
  torpor_unix_listen: { parameters: ["buffer", "i32"], result: "i32" },
  torpor_send_descriptors: { parameters: ["i32", "buffer", "u64", "buffer", "u32"], result: "i32" },
  torpor_receive_descriptors: {
    parameters: ["i32", "buffer", "u64", "buffer", "buffer", "i32", "i32"],
    result: "i64",
    nonblocking: true,
  },
  torpor_spawn_confined: { parameters: ["buffer", "buffer", "u64", "buffer", "buffer", "buffer"], result: "i32" },
  torpor_make_root: { parameters: ["buffer", "u64"], result: "i32" },
  torpor_make_network: { parameters: [], result: "i32" },
  torpor_keep_capabilities: { parameters: ["u64"], result: "i32" },
  torpor_take_lease: { parameters: ["buffer"], result: "i32" },
  torpor_share_lease: { parameters: ["buffer"], result: "i32" },
  torpor_pidfd_open: { parameters: ["i32"], result: "i32" },
  torpor_pidfd_signal: { parameters: ["i32", "i32"], result: "i32" },
  torpor_pidfd_get_descriptor: { parameters: ["i32", "i32"], result: "i32" },
  torpor_process_start_time: { parameters: ["i32"], result: "i64" },
  torpor_watcher_start: { parameters: ["buffer"], result: "pointer" },
  torpor_watcher_add: { parameters: ["pointer", "i32", "u64"], result: "i32" },
  torpor_watcher_stop: { parameters: ["pointer"], result: "void" },
  torpor_pagemap_scan_supported: { parameters: [], result: "i32" },
  torpor_scan_dirty: { parameters: ["i32", "u64", "u64", "i32", "i32", "buffer"], result: "i64", nonblocking: true },
  torpor_present_pages: { parameters: ["i32", "u64", "buffer"], result: "i64", nonblocking: true },
  torpor_keep_present: { parameters: ["i32", "u64", "buffer"], result: "i64", nonblocking: true },
  torpor_soft_dirty_supported: { parameters: [], result: "i32" },
  torpor_clear_soft_dirty: { parameters: ["i32"], result: "i32", nonblocking: true },
  torpor_soft_dirty_pages: { parameters: ["i32", "u64", "u64", "buffer"], result: "i64", nonblocking: true },
  torpor_compare_dirty: {
    parameters: ["i32", "u64", "buffer", "u64", "buffer", "u32", "buffer", "buffer"],
    result: "i64",
    nonblocking: true,
  },
  torpor_compare_process: {
    parameters: ["i32", "u64", "u64", "buffer", "u64", "buffer", "u32", "buffer", "buffer"],
    result: "i64",
    nonblocking: true,
  },
  torpor_put_pages: { parameters: ["buffer", "buffer", "buffer", "buffer"], result: "i64", nonblocking: true },
  torpor_export_memory: { parameters: ["i32", "u64", "buffer", "i32", "buffer"], result: "i32", nonblocking: true },
  torpor_export_process: {
    parameters: ["i32", "u64", "u64", "buffer", "i32", "buffer"],
    result: "i32",
    nonblocking: true,
  },
  torpor_private_pages: {
    parameters: ["i32", "u64", "u64", "i32", "buffer", "buffer"],
    result: "i32",
    nonblocking: true,
  },
  torpor_precopy_start: { parameters: ["i32", "u64", "u64", "i32"], result: "pointer", nonblocking: true },
  torpor_precopy_round: { parameters: ["pointer", "buffer", "i32"], result: "i64", nonblocking: true },
  torpor_precopy_finish: { parameters: ["pointer", "i32", "buffer"], result: "i32", nonblocking: true },
  torpor_precopy_free: { parameters: ["pointer"], result: "void" },
  torpor_copy_sparse: { parameters: ["i32", "i32", "u64", "buffer"], result: "i32", nonblocking: true },
  torpor_disk_diff: { parameters: ["buffer", "buffer", "buffer", "buffer"], result: "i32", nonblocking: true },
  torpor_data_runs: { parameters: ["i32", "u64", "buffer"], result: "i32", nonblocking: true },
  torpor_copy_ranges: {
    parameters: ["buffer", "u32", "buffer", "u64", "i32", "buffer"],
    result: "i32",
    nonblocking: true,
  },
  torpor_file_crc32c: { parameters: ["i32", "u64"], result: "i64", nonblocking: true },
  torpor_exchange: { parameters: ["buffer", "buffer"], result: "i32" },
  torpor_open_tap: { parameters: ["buffer", "buffer"], result: "i32", nonblocking: true },
  torpor_new_network_namespace: { parameters: [], result: "i32", nonblocking: true },
  torpor_network_setting: { parameters: ["buffer", "buffer", "buffer"], result: "i32", nonblocking: true },
  torpor_tsc_khz: { parameters: [], result: "i64" },
  torpor_crc32c: { parameters: ["u32", "buffer", "u64"], result: "u32" },
  torpor_pager_stats_size: { parameters: ["u64"], result: "u64" },
} as const satisfies Deno.ForeignLibraryInterface;

type Library = Deno.DynamicLibrary<typeof symbols>;

const ABI_VERSION = 1;
let library: Library | undefined;

/** The four files that `make` builds, in one directory. */
export interface NativeFiles {
  /** libtorpor.so, for {@linkcode openLibrary}. */
  readonly library: string;
  /** torpor-pager, to be spawned. */
  readonly pager: string;
  /** torpor-base-pager, to be spawned. */
  readonly basePager: string;
  /** torpor-shim.so, for LD_PRELOAD of QEMU. */
  readonly shim: string;
}

/** Paths of the built files in `directory`; by default TORPOR_LIB_DIR, or `ffi/build` when it is not set. */
export function nativeFiles(directory: string = defaultDirectory()): NativeFiles {
  return {
    library: `${directory}/libtorpor.so`,
    pager: `${directory}/torpor-pager`,
    basePager: `${directory}/torpor-base-pager`,
    shim: `${directory}/torpor-shim.so`,
  };
}

function defaultDirectory(): string {
  const state = Deno.permissions.querySync({ name: "env", variable: "TORPOR_LIB_DIR" }).state;
  const directory = state === "granted" ? Deno.env.get("TORPOR_LIB_DIR") : undefined;
  return directory ?? `${import.meta.dirname}/build`;
}

/**
 * Loads the library from `path`, unless one is loaded already. Needs `--allow-ffi`.
 *
 * @throws {NativeError} `native_library` when the file cannot be loaded or is of another version; `cause` is kept.
 */
export function openLibrary(path: string = nativeFiles().library): void {
  if (library) return;
  let opened: Library;
  try {
    opened = Deno.dlopen(path, symbols);
  } catch (cause) {
    throw new NativeError("openLibrary", 0, { cause, detail: `${path}; build it with make -C ffi` });
  }
  const version = opened.symbols.torpor_abi_version();
  if (version !== ABI_VERSION) {
    opened.close();
    throw new NativeError("openLibrary", 0, { detail: `${path} has version ${version}, not ${ABI_VERSION}` });
  }
  library = opened;
}

/** The functions of the library, loaded on first use. */
export function native(): Library["symbols"] {
  if (!library) openLibrary();
  return library!.symbols;
}

/**
 * Awaits a call that runs on another thread and keeps the buffers that it uses from being collected until then: the thread sees
 * only their addresses.
 */
export async function keepingAlive<T>(call: Promise<T>, ...buffers: unknown[]): Promise<T> {
  const result = await call;
  buffers.length = 0; // a use after the await: without it the engine may drop the reference before
  return result;
}

/** `text` as NUL-terminated bytes. A NUL inside is refused by {@linkcode NativeError} `native_einval`. */
export function cString(operation: string, text: string): Uint8Array<ArrayBuffer> {
  if (text.includes("\0")) throw new NativeError(operation, 22, { detail: "NUL in a string" });
  return new TextEncoder().encode(text + "\0");
}

// The library is loaded with the module where it is allowed and built: a test that loads it on first use would be blamed for a leak.
if (Deno.permissions.querySync({ name: "ffi" }).state === "granted") {
  try {
    openLibrary();
  } catch (error) {
    if (!(error instanceof NativeError)) throw error; // reported at the first use
  }
}
