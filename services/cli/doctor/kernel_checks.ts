import { exists } from "@std/fs";
import { join } from "@std/path";
import type { HomePaths } from "@torpor/config";
import { TorporError } from "@torpor/errors";
import { z } from "zod";
import { nativeDirectory } from "../deployment/native.ts";
import { REPOSITORY } from "../deployment/repository.ts";
import { runTool } from "../tool/run_tool.ts";
import type { Check } from "./check.ts";

const probeSchema = z.object({ userfaultfd_error: z.string().nullable(), pagemap_scan: z.boolean() });

/** Whether pages can be served lazily and dirty pages be found: tried with the native library, when it has been built. */
export async function kernelChecks(paths: HomePaths): Promise<Check[]> {
  const directory = await nativeDirectory(paths);
  if (!await exists(directory)) {
    const found = "not tried: the native code has not been built yet (./torpor up)";
    return ["userfaultfd", "PAGEMAP_SCAN"].map((name) => ({ name, state: "unknown", found }));
  }
  const run = ["run", "--quiet", "--frozen", "--allow-ffi", "--allow-read", "--allow-env"];
  const config = ["--config", join(REPOSITORY, "deno.json")];
  const probe = join(REPOSITORY, "services/cli/doctor/native_probe.ts");
  try {
    const output = await runTool([Deno.execPath(), ...run, ...config, probe, directory]);
    return describe(probeSchema.parse(JSON.parse(output)));
  } catch (error) {
    if (!(error instanceof TorporError)) throw error;
    return [{ name: "userfaultfd", state: "unknown", found: "the probe failed", cost: error.message }];
  }
}

function describe(probe: z.infer<typeof probeSchema>): Check[] {
  return [
    probe.userfaultfd_error === null ? { name: "userfaultfd", state: "ok", found: "/dev/userfaultfd opens" } : {
      name: "userfaultfd",
      state: "missing",
      found: `/dev/userfaultfd: ${probe.userfaultfd_error}`,
      cost: "no lazy resume: Linux 6.1 or later with CONFIG_USERFAULTFD is needed; in a container, pass the device in",
    },
    probe.pagemap_scan ? { name: "PAGEMAP_SCAN", state: "ok", found: "finds exactly the pages that were written" } : {
      name: "PAGEMAP_SCAN",
      state: "limited",
      found: "the kernel does not have it (it came with Linux 6.7)",
      cost: "a second pause compares all resident memory with the snapshot to find what changed: it takes longer",
    },
  ];
}
