import type { HomePaths } from "@torpor/config";
import { listProcesses, type ProcessInfo } from "../process/process_table.ts";

const PROGRAMS = /^(qemu-system-.*|torpor-(base-)?pager)$/;

const EGRESS_PROXY = "/services/hostagent/network/egress/main.ts";

/** A process that a host agent has started. */
export interface AgentProcess {
  name: string;
  process: ProcessInfo;
}

/** The VMs and pagers of a data directory: their command lines name files below it. */
export function virtualMachines(paths: HomePaths): AgentProcess[] {
  return listProcesses().flatMap((process) => {
    const name = process.argv[0]!.slice(process.argv[0]!.lastIndexOf("/") + 1);
    const belongs = process.argv.some((argument) => isBelow(paths, argument, "sandboxes"));
    return PROGRAMS.test(name) && belongs ? [{ name, process }] : [];
  });
}

/** The egress proxies of a data directory; each agent ends its own, unless it is killed. */
export function egressProxies(paths: HomePaths): AgentProcess[] {
  return listProcesses()
    .filter(({ argv }) => argv.some((argument) => argument.endsWith(EGRESS_PROXY)))
    .filter(({ argv }) => argv.some((argument) => isBelow(paths, argument, "egress")))
    .map((process) => ({ name: "egress-proxy", process }));
}

/** In the data directory of its host agent, or of one of several. */
function isBelow({ home }: HomePaths, argument: string, folder: "sandboxes" | "egress"): boolean {
  const at = argument.indexOf(`${home}/`);
  const path = at < 0 ? "" : argument.slice(at + home.length + 1).replace(/^hosts\/[0-9]+\//, "");
  return path.startsWith(`${folder}/`);
}
