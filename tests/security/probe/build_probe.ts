import { runTool } from "../../../services/cli/tool/run_tool.ts";

const SOURCES = ["probe.c", "talk.c", "frames.c", "channel.c", "load.c", "measure.c"];
const FLAGS = ["-std=gnu17", "-Os", "-s", "-static", "-Wall", "-Wextra", "-Werror"];

/** Builds the intruder's program as a file that runs in any guest, and returns its path. */
export async function buildProbe(directory: string): Promise<string> {
  const source = new URL(".", import.meta.url).pathname;
  const target = `${directory}/probe`;
  await runTool(["gcc", ...FLAGS, "-o", target, ...SOURCES.map((file) => source + file)], {
    hint: "apt-get install gcc libc6-dev",
  });
  return target;
}
