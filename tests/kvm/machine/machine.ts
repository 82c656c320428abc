import { TextLineStream } from "../../../services/cli/tool/text_lines.ts";
import type { LaneImage } from "../image/mod.ts";
import { type LaneMessage, parseMessage } from "./messages.ts";

/**
 * One virtual processor. With two, the kernel's own patching of its code (static keys, which each new VM flips) now and
 * then kills it: a processor that TCG emulates in a thread of its own still runs the breakpoint that the other has
 * removed already. `Oops: int3` in the scheduler, or a hang.
 */
const VCPUS = 1;
const MEMORY_MB = 3072;

/**
 * An AMD processor that TCG emulates with nested virtualisation; TCG has none for Intel.
 */
const PROCESSOR = ["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "EPYC,+svm,+npt,enforce=off"];

// The machine's TSC follows this one's; a calibration would only take time and fail under load.
const KERNEL_COMMAND_LINE =
  "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off random.trust_cpu=on tsc=reliable " +
  "no_timer_check cryptomgr.notests audit=0 apparmor=0";

const PANIC = "Kernel panic - not syncing";
/** Of the serial port, for a message: a panic prints about 50. */
const KEPT_LINES = 60;

/** How a run of the machine ended. */
export interface MachineEnd {
  /** `off`: it switched itself off. `hung`: the outer timeout ended it. `died`: its kernel panicked or QEMU failed. */
  kind: "off" | "hung" | "died";
  /** Last lines of what it printed. */
  detail: string;
}

/**
 * Boots the emulated machine with a job disk and waits until it has switched itself off.
 * @param serialLog gets all that the machine prints.
 * @param signal ends the machine at once; its reason is thrown.
 * @param timeoutMs then the machine is killed: it hangs once in a while (nested virtualisation under emulation).
 */
export async function runMachine(
  image: LaneImage,
  jobDisk: string,
  serialLog: string,
  timeoutMs: number,
  onMessage: (message: LaneMessage) => void,
  signal: AbortSignal,
): Promise<MachineEnd> {
  signal.throwIfAborted();
  // nice: nothing waits for this machine, and everything else on this one does not have to wait for it.
  const child = new Deno.Command("nice", {
    args: ["-n", "15", ...machineArguments(image, jobDisk)],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let hung = false;
  const timer = setTimeout(() => {
    hung = true;
    child.kill("SIGKILL");
  }, timeoutMs);
  const abort = () => child.kill("SIGKILL");
  signal.addEventListener("abort", abort);
  const ended = child.status.finally(() => {
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
  });
  const serial = forwardSerial(child.stdout, serialLog, onMessage);
  const [status, complaint, lastLines] = await Promise.all([ended, new Response(child.stderr).text(), serial]);
  signal.throwIfAborted();
  if (hung) return { kind: "hung", detail: lastLines };
  if (!status.success) return { kind: "died", detail: complaint };
  // A panic resets the machine, which ends QEMU (-no-reboot) as a switched-off one does.
  return { kind: lastLines.includes(PANIC) ? "died" : "off", detail: lastLines };
}

function machineArguments(image: LaneImage, jobDisk: string): string[] {
  return [
    "qemu-system-x86_64",
    ...["-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-serial", "stdio"],
    ...[...PROCESSOR, "-smp", String(VCPUS), "-m", String(MEMORY_MB)],
    ...["-kernel", image.kernel, "-initrd", image.initramfs, "-append", KERNEL_COMMAND_LINE],
    ...["-drive", `file=${image.system},if=virtio,format=raw,readonly=on`],
    ...["-drive", `file=${jobDisk},if=virtio,format=raw,cache=unsafe,discard=unmap`],
  ];
}

async function forwardSerial(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  serialLog: string,
  onMessage: (message: LaneMessage) => void,
): Promise<string> {
  using log = await Deno.open(serialLog, { create: true, write: true, truncate: true });
  const encoder = new TextEncoder();
  const lastLines: string[] = [];
  for await (const line of stream.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream())) {
    await log.write(encoder.encode(line + "\n"));
    const message = parseMessage(line);
    if (message) onMessage(message);
    else lastLines.push(line);
    if (lastLines.length > KEPT_LINES) lastLines.shift();
  }
  return lastLines.join("\n");
}
