import { namesIn } from "../../storage/durable_file.ts";
import type { NetworkConfig } from "../types.ts";
import { vethPrefix } from "./addresses.ts";

/** Numbers of the slots that something of is there. */
export interface FoundSlots {
  /** There is a namespace of the slot's name. */
  namespaces: Set<number>;
  /** Its device is in this agent's namespace. */
  devices: Set<number>;
}

/** What there is of this agent's slots; others are not seen. */
export async function findSlots({ agentId, namespacePrefix }: NetworkConfig): Promise<FoundSlots> {
  return {
    namespaces: numbersAfter(namespacePrefix, await namesIn("/run/netns")),
    devices: numbersAfter(vethPrefix(agentId), await deviceNames()),
  };
}

/** All numbers of {@linkcode FoundSlots}. */
export function allFound({ namespaces, devices }: FoundSlots): Set<number> {
  return namespaces.union(devices);
}

/** Network devices of this process's namespace; /sys/class/net would show those of the namespace that /sys was mounted in. */
async function deviceNames(): Promise<string[]> {
  const text = await Deno.readTextFile("/proc/self/net/dev");
  return text.split("\n").slice(2).map((line) => line.slice(0, Math.max(line.indexOf(":"), 0)).trim());
}

function numbersAfter(prefix: string, names: string[]): Set<number> {
  const numbers = names.filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length));
  return new Set(numbers.filter((text) => /^\d{1,5}$/.test(text)).map(Number));
}
