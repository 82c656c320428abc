import { join } from "@std/path";
import type { HomePaths } from "@torpor/config";
import type { Report } from "../terminal/progress.ts";
import { runTool } from "../tool/run_tool.ts";
import { REPOSITORY } from "./repository.ts";

/** Builds the guest's kernel, initramfs and base image into the cache, unless they are there for the present recipe. */
export async function buildImages(paths: HomePaths, report: Report): Promise<void> {
  const run = ["run", "--quiet", "--frozen", "--allow-all", "--config", join(REPOSITORY, "deno.json")];
  const build = [join(REPOSITORY, "services/guest/main.ts"), "build", "--cache", paths.images];
  await runTool([Deno.execPath(), ...run, ...build], {
    onLine: (line, stream) => stream === "stderr" && report(line),
  });
}
