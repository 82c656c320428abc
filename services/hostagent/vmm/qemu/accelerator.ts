import { z } from "zod";
import { log, withSpan } from "@torpor/telemetry";
import { bootId } from "../../host/machine.ts";
import { readIfPresent, writeDurably } from "../../storage/durable_file.ts";
import type { Image } from "../../storage/images.ts";
import type { Accelerator } from "./command_line.ts";
import { probeBoot } from "./probe_boot.ts";

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
  const { booted, said } = await withSpan("vmm.probe_kvm", {}, () => probeBoot({ ...host, accelerator: "kvm" }));
  const accelerator = booted ? "kvm" : "tcg";
  // A host that has KVM and cannot use it is ten times slower than its owner thinks: the reason belongs in the log.
  log(booted ? "info" : "warn", "accelerator_probed", { accelerator, said: booted ? undefined : said });
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
