import { memfdCreate, nativeFiles, openUserfaultfdDevice, preadSync, spawn } from "@torpor/ffi";
import { log } from "@torpor/telemetry";

/** The reason is one line. */
const MESSAGE_BYTES = 4096;

/**
 * Whether sandboxes on this host can share a base: tried on memory of a process of its own, as kernels differ. What is
 * missing is logged.
 */
export async function sharedBaseSupported(nativeDirectory: string): Promise<boolean> {
  const path = nativeFiles(nativeDirectory).basePager;
  using device = openUserfaultfdDevice();
  using message = memfdCreate("torpor-selftest", MESSAGE_BYTES);
  const process = spawn({
    path,
    argv: [path, "--self-test", "--userfaultfd-device-fd", "3"],
    env: {},
    cwd: "/",
    descriptors: [{ childFd: 3, fd: device.fd }],
    stderrFd: message.fd,
    noNewPrivileges: true,
  });
  const { code } = await process.exited;
  if (code === 0) return true;
  const bytes = new Uint8Array(MESSAGE_BYTES);
  preadSync(message.fd, bytes, 0);
  const missing = new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0))).trim();
  log("warn", "shared_base_unavailable", { missing, exit_code: code });
  return false;
}
