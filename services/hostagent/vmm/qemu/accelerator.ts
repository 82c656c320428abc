import { z } from "zod";
import { scaledTimeoutMs } from "@torpor/config";
import { memfdCreate, spawn } from "@torpor/ffi";
import { log, withSpan } from "@torpor/telemetry";
import { bootId } from "../../host/machine.ts";
import { delay } from "../../host/delay.ts";
import { readIfPresent, writeDurably } from "../../storage/durable_file.ts";
import type { Image } from "../../storage/images.ts";
import { type Accelerator, commonArguments, kernelCommandLine, MACHINE } from "./command_line.ts";

/** A guest that really runs under KVM says so within a second. */
const PROBE_TIMEOUT_MS = scaledTimeoutMs(10_000);
const PROBE_MEMORY_MB = 128;
/** services/guest/init prints this and powers off when the kernel command line has `torpor.probe`. */
const PROBE_ANSWER = "TORPOR_PROBE_OK";

const cacheSchema = z.object({ key: z.string(), accelerator: z.enum(["kvm", "tcg"]) });

/** What a probe needs to know. */
export interface ProbeHost {
  program: string;
  version: string;
  image: Image;
  /** Where the answer is kept until the machine, QEMU or the kernel changes. */
  cachePath: string;
}

/**
 * The accelerator that works here. That /dev/kvm can be opened means little (nested virtualisation may be broken), so a
 * guest kernel is really booted under it.
 */
export async function probeAccelerator(host: ProbeHost): Promise<Accelerator> {
  if (!await canOpenKvm()) return "tcg";
  const key = [await bootId(), host.version, host.image.kernel, host.image.initramfs].join(" ");
  const cached = await readCache(host.cachePath);
  if (cached?.key === key) return cached.accelerator;
  const accelerator = await withSpan("vmm.probe_kvm", {}, () => bootsUnderKvm(host)) ? "kvm" : "tcg";
  log("info", "accelerator_probed", { accelerator });
  await writeDurably(host.cachePath, JSON.stringify({ key, accelerator }) + "\n");
  return accelerator;
}

async function canOpenKvm(): Promise<boolean> {
  try {
    (await Deno.open("/dev/kvm", { read: true, write: true })).close();
    return true;
  } catch {
    // Absent, not permitted or without a module behind it: no KVM in any case.
    return false;
  }
}

async function readCache(path: string): Promise<z.infer<typeof cacheSchema> | undefined> {
  const text = await readIfPresent(path);
  if (text === undefined) return undefined;
  try {
    return cacheSchema.parse(JSON.parse(text));
  } catch {
    // Of another version, or damaged: the probe is simply made again.
    return undefined;
  }
}

async function bootsUnderKvm({ program, image }: ProbeHost): Promise<boolean> {
  // The console goes to a memory file that is read back: it cannot fill a disk, whatever the kernel prints.
  using console = memfdCreate("torpor-probe", 2 ** 20);
  const consolePath = `/proc/self/fd/${console.fd}`;
  await using process = spawn({
    path: program,
    argv: [
      program,
      ...commonArguments("kvm"),
      ...["-M", MACHINE, "-m", `${PROBE_MEMORY_MB}M`, "-smp", "1"],
      ...["-kernel", image.kernel, "-initrd", image.initramfs],
      ...["-append", kernelCommandLine("kvm", 0, ["torpor.probe"])],
      ...["-chardev", "file,id=console,path=/proc/self/fd/3", "-serial", "chardev:console"],
    ],
    env: {},
    cwd: "/",
    descriptors: [{ childFd: 3, fd: console.fd }],
    noNewPrivileges: true,
  });
  const given = new AbortController();
  await Promise.race([process.exited, delay(PROBE_TIMEOUT_MS, given.signal)]);
  given.abort();
  return (await Deno.readTextFile(consolePath)).includes(PROBE_ANSWER);
}
