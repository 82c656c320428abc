import type { HomePaths } from "@torpor/config";
import { listProcesses, type ProcessInfo } from "../process/process_table.ts";

const PROGRAMS = /^(qemu-system-.*|torpor-(base-)?pager)$/;

/** The VMs and pagers of a data directory: their command lines name files below it. */
export function virtualMachines(paths: HomePaths): { name: string; process: ProcessInfo }[] {
  return listProcesses().flatMap((process) => {
    const name = process.argv[0]!.slice(process.argv[0]!.lastIndexOf("/") + 1);
    const belongs = process.argv.some((argument) => isBelow(paths, argument));
    return PROGRAMS.test(name) && belongs ? [{ name, process }] : [];
  });
}

/** In the data directory of its host agent, or of one of several. */
function isBelow({ home }: HomePaths, argument: string): boolean {
  const at = argument.indexOf(`${home}/`);
  return at >= 0 && /^(hosts\/[0-9]+\/)?sandboxes\//.test(argument.slice(at + home.length + 1));
}
