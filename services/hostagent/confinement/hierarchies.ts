/** Limits that a cgroup can set. */
export const controllers = ["memory", "cpu", "pids"] as const;
/** See {@linkcode controllers}. */
export type Controller = typeof controllers[number];

/** A mounted hierarchy of cgroups and what of it is used. */
export interface Hierarchy {
  version: 1 | 2;
  mountPoint: string;
  controllers: Controller[];
}

/**
 * The hierarchies that have the controllers: version 2 where it has one, else version 1. Both can be there, with some each.
 * @param mountInfo text of /proc/self/mountinfo. @param available of a mount point of version 2: its `cgroup.controllers`.
 */
export function findHierarchies(mountInfo: string, available: (mountPoint: string) => string): Hierarchy[] {
  const found: Hierarchy[] = [];
  const missing = new Set<Controller>(controllers);
  const mounts = mountInfo.split("\n").flatMap(parseMount);
  for (const { type, mountPoint } of mounts) {
    if (type === "cgroup2") take(found, missing, 2, mountPoint, available(mountPoint).split(/\s+/));
  }
  for (const { type, mountPoint, options } of mounts) {
    if (type === "cgroup") take(found, missing, 1, mountPoint, options);
  }
  return found;
}

function take(found: Hierarchy[], missing: Set<Controller>, version: 1 | 2, mountPoint: string, names: string[]): void {
  const here = [...missing].filter((controller) => names.includes(controller));
  if (here.length === 0) return;
  for (const controller of here) missing.delete(controller);
  found.push({ version, mountPoint, controllers: here });
}

/** Fields of proc(5): … root, mount point, …, "-", type, source, options of the file system. */
function parseMount(line: string): { mountPoint: string; type: string; options: string[] }[] {
  const [before, after] = line.split(" - ");
  const mountPoint = before?.split(" ")[4];
  const [type, , options] = after?.split(" ") ?? [];
  if (!mountPoint || !type || !options) return [];
  return [{ mountPoint: unescape(mountPoint), type, options: options.split(",") }];
}

/** Spaces and the like are octal there. */
function unescape(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, digits) => String.fromCharCode(parseInt(digits, 8)));
}
