import { Socket } from "node:net";
import { scaledTimeoutMs } from "@torpor/config";
import { type Descriptor, memfdCreate, socketPair, spawn } from "@torpor/ffi";
import type { Image } from "../../storage/images.ts";
import { type Accelerator, commonArguments, kernelCommandLine, MACHINE } from "./command_line.ts";

/** A guest that really runs under KVM says so within a second. */
const PROBE_TIMEOUT_MS = scaledTimeoutMs(10_000);
const PROBE_MEMORY_MB = 128;
/** services/guest/init prints this and powers off when the kernel command line has `torpor.probe`. */
const PROBE_ANSWER = "TORPOR_PROBE_OK";
/** The descriptor of the guest's console inside QEMU. */
const CONSOLE_FD = 3;
/** What is kept of the console, characters, and of QEMU's own complaints, bytes: enough for the reason of a failure. */
const KEPT = 2000;

/** What to try. */
export interface BootProbe {
  /** Absolute path of QEMU. */
  program: string;
  image: Image;
  accelerator: Accelerator;
  /** Frequency of the host's time-stamp counter; needed with TCG only. */
  hostTscKhz?: number;
  timeoutMs?: number;
}

/**
 * Boots a guest kernel and waits for the word of its init.
 * @returns whether it came, and the last that QEMU and the guest's console said.
 */
export async function probeBoot(probe: BootProbe): Promise<{ booted: boolean; said: string }> {
  const [ours, theirs] = socketPair();
  using complaints = memfdCreate("torpor-probe", KEPT);
  await using process = spawn({
    path: probe.program,
    argv: probeArguments(probe),
    env: {},
    cwd: "/",
    descriptors: [{ childFd: CONSOLE_FD, fd: theirs.fd }],
    stderrFd: complaints.fd,
    noNewPrivileges: true,
  });
  // From here on QEMU has the only other end: when it ends, so does the console.
  theirs.close();
  const console = await readConsole(ours, probe.timeoutMs ?? PROBE_TIMEOUT_MS);
  await process[Symbol.asyncDispose]();
  const complaint = (await Deno.readTextFile(`/proc/self/fd/${complaints.fd}`)).replaceAll("\0", "");
  return { booted: console.includes(PROBE_ANSWER), said: (complaint + console).trim().slice(-KEPT) };
}

function probeArguments({ program, image, accelerator, hostTscKhz = 0 }: BootProbe): string[] {
  return [
    program,
    ...commonArguments(accelerator),
    ...["-M", MACHINE, "-m", `${PROBE_MEMORY_MB}M`, "-smp", "1"],
    ...["-kernel", image.kernel, "-initrd", image.initramfs],
    ...["-append", kernelCommandLine(accelerator, hostTscKhz, ["torpor.probe"])],
    // A socket, as a file would be truncated by QEMU, and a pipe would have to be a named one.
    ...["-chardev", `socket,id=console,fd=${CONSOLE_FD}`, "-serial", "chardev:console"],
  ];
}

/** What the console says until the answer has come, the other end is closed, or the time is over. */
async function readConsole(descriptor: Descriptor, timeoutMs: number): Promise<string> {
  const socket = new Socket({ fd: descriptor.release(), readable: true, writable: false });
  socket.setEncoding("latin1");
  const done = Promise.withResolvers<void>();
  const closed = Promise.withResolvers<void>();
  let text = "";
  socket.on("data", (chunk: string) => {
    text = (text + chunk).slice(-KEPT);
    if (text.includes(PROBE_ANSWER)) done.resolve();
  });
  for (const event of ["end", "error"]) socket.on(event, () => done.resolve());
  socket.on("close", () => closed.resolve());
  const timer = setTimeout(() => done.resolve(), timeoutMs);
  await done.promise;
  clearTimeout(timer);
  socket.destroy();
  await closed.promise;
  return text;
}
