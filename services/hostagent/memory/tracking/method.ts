import { NativeError, pagemapScanSupported, softDirtySupported } from "@torpor/ffi";
import { TorporError } from "@torpor/errors";

/** Ways to find the pages that a guest has written, best first. */
export const trackingMethods = ["pagemap_scan", "soft_dirty", "compare"] as const;

/**
 * `pagemap_scan`: the kernel's own account of writes, exact, also while the guest runs (Linux 6.7).
 * `soft_dirty`: marks in the page table name what may have been written; that is compared with the parent snapshot.
 * `compare`: all memory that is loaded is compared with the parent snapshot.
 */
export type TrackingMethod = typeof trackingMethods[number];

/** `private_pages`: the page table of a VMM that maps a shared base tells by itself which pages are its own. */
export type VmTracking = TrackingMethod | "private_pages";

/**
 * The way that this host uses: the one asked for, or the first whose self-test passes (each writes pages and looks).
 * @throws TorporError `config_invalid` when the one asked for does not work here.
 */
export function chooseTracking(wanted: TrackingMethod | "auto"): TrackingMethod {
  if (wanted === "auto") return trackingMethods.find(works)!;
  if (works(wanted)) return wanted;
  throw new TorporError("config_invalid", `TORPOR_DIRTY_TRACKING=${wanted} does not work on this kernel`, {
    hint: "auto takes the best one that does",
  });
}

function works(method: TrackingMethod): boolean {
  try {
    if (method === "pagemap_scan") return pagemapScanSupported();
    if (method === "soft_dirty") return softDirtySupported();
    return true;
  } catch (error) {
    if (error instanceof NativeError) return false;
    throw error;
  }
}
