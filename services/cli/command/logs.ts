import { deploymentPaths } from "../deployment/deployment.ts";
import { readTextIfThere } from "../deployment/files.ts";
import { logFile } from "../deployment/service_process.ts";
import { SERVICE_NAMES, type ServiceName } from "../deployment/services.ts";
import { defineAction, integerOption } from "./define.ts";
import { EXIT, UsageError } from "./exit_codes.ts";
import { printJson } from "./print.ts";

/** `torpor logs` */
export const logs = defineAction({
  name: "logs",
  description: `Print the end of the services' logs, oldest line first (${SERVICE_NAMES.join(", ")})`,
  args: { lines: { type: "string", description: "Lines of each service (default: 50)", valueHint: "number" } },
  rest: "SERVICE…",
  async run({ args, rest }) {
    const lines = integerOption(args.lines, "--lines", 1, 1_000_000) ?? 50;
    const names = rest.length > 0 ? rest.map(requireService) : [...SERVICE_NAMES];
    const paths = deploymentPaths();
    const found: { service: string; line: string; time: string }[] = [];
    for (const service of names) {
      const text = await readTextIfThere(logFile(paths, service)) ?? "";
      let time = "";
      for (const line of text.trimEnd().split("\n").filter((line) => line !== "").slice(-lines)) {
        // A line without a time of its own (a stack trace) belongs to the one before it.
        time = timeOf(line) ?? time;
        found.push({ service, line, time });
      }
    }
    found.sort((a, b) => a.time < b.time ? -1 : a.time > b.time ? 1 : 0);
    if (args.json) return printJson({ lines: found.map(({ service, line }) => ({ service, line })) });
    if (found.length === 0) {
      console.error(`no logs in ${paths.logs}`);
      return EXIT.notFound;
    }
    for (const { service, line } of found) console.log(names.length > 1 ? `${service.padEnd(10)} ${line}` : line);
  },
});

function timeOf(line: string): string | undefined {
  return /^\{"time":"([^"]+)"/.exec(line)?.[1];
}

function requireService(name: string): ServiceName {
  const service = SERVICE_NAMES.find((known) => known === name);
  if (!service) throw new UsageError(`unknown service: ${name}; known: ${SERVICE_NAMES.join(", ")}`);
  return service;
}
