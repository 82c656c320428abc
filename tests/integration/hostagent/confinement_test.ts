// What real VMMs and pagers can do: asked of the kernel, not of the agent. What an intruder in their place can do is tested in
// services/hostagent/confinement.
import { assert, assertEquals, assertLess, assertMatch } from "@std/assert";
import {
  eventually,
  makeTestHome,
  startHostAgentProcess,
  startTestHostAgent,
  type TestHostAgent,
} from "@torpor/testing/hostagent";
import { newId } from "@torpor/ids";

interface Seen {
  uid: number;
  /** Paths of open files. */
  files: string[];
  cgroups: string[];
}

/** What the kernel says of a process, and that it is confined as each must be. */
async function confined(pid: number): Promise<Seen> {
  const read = (name: string) => Deno.readTextFile(`/proc/${pid}/${name}`);
  const status = await read("status");
  const [, uid] = /^Uid:\s+(\d+)\s+\1\s+\1\s+\1$/m.exec(status)!;
  for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]) {
    assertMatch(status, new RegExp(`^${set}:\\s+0{16}$`, "m"));
  }
  assertMatch(status, /^NoNewPrivs:\s+1$/m);
  assertMatch(status, /^Seccomp:\s+2$/m);
  assertMatch(status, /^Groups:\s*$/m);
  for (const namespace of ["mnt", "net", "ipc", "cgroup"]) {
    const link = (of: number | "self") => Deno.readLink(`/proc/${of}/ns/${namespace}`);
    assert(await link(pid) !== await link("self"), namespace);
  }
  const mounts = (await read("mountinfo")).trim().split("\n").map((line) => line.split(" ")[4]!);
  assertEquals(mounts.sort(), ["/", "/dev", "/etc/ld.so.cache", "/proc", "/torpor", "/usr"]);
  const files = [];
  for await (const { name } of Deno.readDir(`/proc/${pid}/fd`)) {
    files.push(await Deno.readLink(`/proc/${pid}/fd/${name}`));
  }
  const cgroups = (await read("cgroup")).split("\n").filter((line) => line.includes("/torpor/"));
  return { uid: Number(uid), files, cgroups: [...new Set(cgroups.map((line) => line.split(":")[2]!))] };
}

async function recordOf(host: Pick<TestHostAgent, "layout">, id: string) {
  return JSON.parse(await Deno.readTextFile(host.layout.sandbox(id).runningRecord)).vm;
}

/** Cgroups that this machine has below any hierarchy's `torpor`, by their names. */
function groupNames(): Set<string> {
  const names = new Set<string>();
  for (const hierarchy of ["memory", "cpu", "pids", "."]) {
    const torpor = `/sys/fs/cgroup/${hierarchy}/torpor`;
    for (const agent of directories(torpor)) for (const name of directories(`${torpor}/${agent}`)) names.add(name);
  }
  return names;
}

function directories(path: string): string[] {
  try {
    return [...Deno.readDirSync(path)].flatMap(({ name, isDirectory }) => isDirectory ? [name] : []);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** Files that belong to sandboxes and snapshots. */
function ownedFiles({ files }: Seen, home: string): string[] {
  return files.filter((path) => path.startsWith(`${home}/`)).map((path) => path.slice(home.length + 1));
}

Deno.test("each VMM and each pager is confined, has its own files only, and leaves nothing behind", async () => {
  const jails: string[] = [];
  {
    await using host = await startTestHostAgent();
    const { client, layout } = host;
    const ids = [await host.create(), await host.create()];
    const seen: Seen[] = [];
    for (const id of ids) {
      await client.pauseSandbox({ sandboxId: id });
      await client.resumeSandbox({ sandboxId: id });
      const { vmm, pager, jail } = await recordOf(host, id);
      jails.push(jail.name);
      const [ofVmm, ofPager] = [await confined(vmm.pid), await confined(pager.pid)];
      assertEquals([ofVmm.uid, ofPager.uid], [jail.vmm_user, jail.pager_user]);
      // Its disk, though that was only being filled when it started: a smaller limit would end it at a write.
      assertMatch(await Deno.readTextFile(`/proc/${vmm.pid}/limits`), /^Max file size\s+536870912\s+536870912 /m);
      // One cgroup for both, in all hierarchies.
      assertEquals([...new Set([...ofVmm.cgroups, ...ofPager.cgroups])].length, 1);
      assert(ofVmm.cgroups[0]!.endsWith(`/${jail.name}`));
      for (const file of ownedFiles(ofVmm, layout.home)) assert(file.startsWith(`sandboxes/${id}/`), file);
      for (const file of ownedFiles(ofPager, layout.home)) {
        assert(file.startsWith(`sandboxes/${id}/pager`) || /^snapshots\/[^/]+\/memory\./.test(file), file);
      }
      seen.push(ofVmm, ofPager);
    }
    assertEquals(new Set(seen.map(({ uid }) => uid)).size, seen.length);
    const disks = seen.map(({ files }) => files.filter((path) => path.endsWith("/disk.raw")));
    assertEquals(disks.map((each) => new Set(each).size), [1, 0, 1, 0]);
    // By name, nobody but the agent reaches anything of a sandbox.
    const { uid, mode } = Deno.statSync(layout.sandbox(ids[0]!).directory);
    assertEquals([uid, mode! & 0o777], [0, 0o700]);
    for (const name of jails) assert(groupNames().has(name));
  }
  for (const name of jails) assert(!groupNames().has(name), name);
});

Deno.test("a VM keeps its jail when its agent is killed; one that ended meanwhile leaves none", async () => {
  const home = await makeTestHome();
  const [kept, gone] = [newId(), newId()];
  const records: Record<string, { vmm: { pid: number }; jail: { name: string; vmm_user: number } }> = {};
  const recordFile = (id: string) => `${home}/sandboxes/${id}/running.json`;
  {
    await using agent = await startHostAgentProcess(home);
    const status = await Deno.readTextFile(`/proc/${agent.pid}/status`);
    // services/hostagent/confinement/agent_capabilities.ts.
    assertMatch(status, /^CapBnd:\s+0000000008ac11e2$/m);
    for (const sandboxId of [kept, gone]) {
      await agent.client.createSandbox({ sandboxId, vcpus: 1, memoryMb: 128, diskSizeMb: 256 });
      records[sandboxId] = JSON.parse(await Deno.readTextFile(recordFile(sandboxId))).vm;
    }
    await agent.end("SIGKILL");
  }
  Deno.kill(records[gone]!.vmm.pid, "SIGKILL");
  {
    await using agent = await startHostAgentProcess(home);
    assert(groupNames().has(records[kept]!.jail.name));
    assert(!groupNames().has(records[gone]!.jail.name));
    const { uid, cgroups } = await confined(records[kept]!.vmm.pid);
    assertEquals(uid, records[kept]!.jail.vmm_user);
    assert(cgroups[0]!.endsWith(records[kept]!.jail.name));
    await agent.client.pauseSandbox({ sandboxId: kept });
    await eventually(async () => !groupNames().has(records[kept]!.jail.name) || undefined, "the end of the jail");
    await agent.client.destroySandbox({ sandboxId: kept });
    await agent.client.destroySandbox({ sandboxId: gone });
    await agent.end("SIGTERM");
  }
  await Deno.remove(home, { recursive: true });
});

Deno.test("a disk does as much as it is allowed to", async () => {
  const seconds = async (diskLimits?: { iops: number; megabytesPerSecond: number }) => {
    await using host = await startTestHostAgent({ diskLimits });
    const id = await host.create();
    const startedMs = performance.now();
    await host.run(id, "dd if=/dev/urandom of=/data bs=1M count=12 oflag=direct 2>&1 && sync");
    return (performance.now() - startedMs) / 1000;
  };
  // 12 MiB at 2 MB a second, of which the first second's may come at once.
  const [limited, free] = [await seconds({ iops: 0, megabytesPerSecond: 2 }), await seconds()];
  assert(limited > 4, `${limited} s`);
  assertLess(free, limited);
});
