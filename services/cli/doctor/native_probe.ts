/**
 * Asks the kernel what the pager needs, through the native library, and prints it as JSON. A program of its own, as only
 * it needs --allow-ffi. Argument: the directory of the built native code.
 */
import { nativeFiles, openLibrary, openUserfaultfdDevice, pagemapScanSupported } from "@torpor/ffi";

function openDevice(): string | undefined {
  try {
    openUserfaultfdDevice().close();
    return undefined;
  } catch (error) {
    if (error instanceof Error && "code" in error) return String(error.code);
    throw error;
  }
}

openLibrary(nativeFiles(Deno.args[0]).library);
console.log(JSON.stringify({ userfaultfd_error: openDevice() ?? null, pagemap_scan: pagemapScanSupported() }));
