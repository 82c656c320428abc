import { assert, assertEquals } from "@std/assert";
import { spawn } from "@torpor/ffi";
import { delay } from "../host/delay.ts";
import { Cgroups } from "./cgroups.ts";
import { findHierarchies, type Hierarchy } from "./hierarchies.ts";

const limits = { memoryBytes: 2 ** 26, cpus: 0.05, pids: 4 };

Deno.test("version 2 is used where it has a controller, version 1 for the others", () => {
  const mixed = [
    "25 1 0:21 / /sys/fs/cgroup ro - tmpfs tmpfs ro",
    "26 25 0:22 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw",
    "27 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
    "28 25 0:24 / /sys/fs/cgroup/with\\040space rw shared:9 - cgroup cgroup rw,memory",
    "29 25 0:25 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd",
  ].join("\n");
  assertEquals(findHierarchies(mixed, () => "hugetlb pids\n"), [
    { version: 2, mountPoint: "/sys/fs/cgroup/unified", controllers: ["pids"] },
    { version: 1, mountPoint: "/sys/fs/cgroup/cpu,cpuacct", controllers: ["cpu"] },
    { version: 1, mountPoint: "/sys/fs/cgroup/with space", controllers: ["memory"] },
  ]);
  const modern = "26 25 0:22 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n";
  assertEquals(findHierarchies(modern, () => "cpuset cpu io memory hugetlb pids rdma"), [
    { version: 2, mountPoint: "/sys/fs/cgroup", controllers: ["memory", "cpu", "pids"] },
  ]);
  assertEquals(findHierarchies("", () => ""), []);
});

Deno.test("a process that uses more than its part of a CPU is held back", async () => {
  const cgroups = Cgroups.open("test-cpu");
  cgroups.create("spin", limits);
  {
    const program = { path: "/bin/sh", argv: ["sh", "-c", "while :; do :; done"], env: {}, cwd: "/", descriptors: [] };
    await using spinning = spawn({ ...program, deathSignal: 9 });
    await cgroups.put("spin", spinning.pid);
    assertEquals(cgroups.members("spin"), [spinning.pid]);
    while (throttledPeriods(spinning.pid) < 2) await delay(10);
    assertEquals(cgroups.removeNow("spin"), false);
  }
  assert(await cgroups.remove("spin"));
  assertEquals(cgroups.names(), []);
  cgroups.close();
});

Deno.test("all VMs together weigh as much as each of them does", () => {
  const cgroups = Cgroups.open("test-weight");
  const weight = () => Number(Deno.readTextFileSync(`${cpuRoot()}/torpor/test-weight/cpu.${version()}`)) / standard();
  const cpuRoot = () => findCpu().mountPoint;
  const version = () => findCpu().version === 2 ? "weight" : "shares";
  const standard = () => findCpu().version === 2 ? 100 : 1024;
  for (const name of ["one", "two"]) cgroups.create(name, { ...limits, cpus: 2.5 });
  assertEquals(weight(), 5);
  assert(cgroups.removeNow("one"));
  assertEquals(weight(), 2.5);
  assert(cgroups.removeNow("two"));
  assertEquals(weight(), 1);
  cgroups.close();
});

Deno.test("where nothing can be limited, that is no error", async () => {
  const readOnly = "26 25 0:22 / /proc/self rw,relatime - cgroup cgroup rw,memory\n";
  const cgroups = Cgroups.open("test-none", readOnly);
  assertEquals(cgroups.controllers, []);
  cgroups.create("nothing", limits);
  await cgroups.put("nothing", Deno.pid);
  assert(cgroups.removeNow("nothing"));
  cgroups.close();
});

function throttledPeriods(pid: number): number {
  const [, path] = /^\d+:cpu:(.*)$/m.exec(Deno.readTextFileSync(`/proc/${pid}/cgroup`)) ??
    /^0::(.*)$/m.exec(Deno.readTextFileSync(`/proc/${pid}/cgroup`))!;
  return Number(/^nr_throttled (\d+)$/m.exec(Deno.readTextFileSync(`${findCpu().mountPoint}${path}/cpu.stat`))![1]);
}

function findCpu(): Hierarchy {
  const available = (mountPoint: string) => Deno.readTextFileSync(`${mountPoint}/cgroup.controllers`);
  const hierarchies = findHierarchies(Deno.readTextFileSync("/proc/self/mountinfo"), available);
  return hierarchies.find(({ controllers }) => controllers.includes("cpu"))!;
}
