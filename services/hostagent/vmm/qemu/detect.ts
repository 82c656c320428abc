import { tscKhz } from "@torpor/ffi";
import { TorporError } from "@torpor/errors";
import { cpuModelName } from "../../host/machine.ts";
import { findProgram } from "../../host/programs.ts";
import type { Images } from "../../storage/images.ts";
import type { Layout } from "../../storage/layout.ts";
import { probeAccelerator } from "./accelerator.ts";
import type { Accelerator, DiskLimits } from "./command_line.ts";
import { QemuDriver } from "./driver.ts";

/** What is known of this host before. */
export interface DetectOptions {
  nativeDirectory: string;
  /** The accelerator to use without a probe. */
  accelerator?: Accelerator;
  diskLimits?: DiskLimits;
}

/**
 * The QEMU driver for this host.
 * @throws TorporError `config_invalid` when QEMU or the guest images are missing.
 */
export async function detectQemu(
  layout: Layout,
  images: Images,
  { nativeDirectory, accelerator: forced, diskLimits }: DetectOptions,
): Promise<QemuDriver> {
  const program = await findProgram("qemu-system-x86_64", "qemu-system-x86");
  const version = await qemuVersion(program);
  const accelerator = forced ?? await probeAccelerator({
    program,
    version,
    image: await images.current("base"),
    cachePath: layout.accelerator,
  });
  const hostTscKhz = accelerator === "tcg" ? tscKhz() : 0;
  const hostCpu = await cpuModelName();
  return new QemuDriver({ program, version, accelerator, hostCpu, hostTscKhz, nativeDirectory, diskLimits });
}

async function qemuVersion(program: string): Promise<string> {
  const { stdout } = await new Deno.Command(program, { args: ["--version"], stdin: "null", stderr: "null" }).output();
  const version = /version (\d+\.\d+\.\d+)/.exec(new TextDecoder().decode(stdout))?.[1];
  if (version) return version;
  throw new TorporError("config_invalid", `${program} --version says no version`);
}
