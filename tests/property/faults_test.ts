/**
 * Faults at each step of a pause, a checkpoint and a resume: whatever is killed, and wherever the disk is full, the sandbox is in a
 * state that the table knows, and has the bytes of that state.
 */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { newId } from "@torpor/ids";
import { eventually } from "@torpor/testing/hostagent";
import { UNPACED } from "../../services/hostagent/snapshot/pace.ts";
import { sealDisk } from "../../services/hostagent/snapshot/seal_disk.ts";
import { compile } from "./harness/build.ts";
import { copyImage, firstDifference, type GuestImage } from "./harness/guest_image.ts";
import { guestStep } from "./harness/guest_steps.ts";
import { PropertyHost } from "./harness/property_host.ts";
import { Random } from "./harness/random.ts";
import { readStoredImage } from "./harness/stored_image.ts";

const SIGKILL = 9;
const MEMORY_MB = 2;
const PAUSE = ["stop", "device_state", "dirty_scan", "export_memory", "disk", "commit"].map((step) => `pause.${step}`);
const CHECKPOINT = ["copy_disk", "copy_memory", "stop", "disk", "device_state", "last_round", "go_on", "commit"]
  .map((step) => `checkpoint.${step}`);
/** Both processes are there. */
const RESUME = ["load_device_state", "start_vcpus", "guest_hello"].map((step) => `resume.${step}`);

/** A host with one sandbox that has a snapshot and runs, changed since. */
interface Scene {
  host: PropertyHost;
  id: string;
  /** Of the snapshot. */
  paused: GuestImage;
}

/** What is done at the begin of the step. */
type Fault = (scene: Scene) => Promise<void>;

const killVmm: Fault = async ({ host, id }) => {
  const { process } = host.driver.vms.get(id)!;
  assert(process.signal(SIGKILL), "there is a VMM to kill");
  await process.exited;
};

/** During a resume nobody but the process table knows the pager: it is this process's only one. */
const killPager: Fault = async () => {
  const pid = await onlyPager();
  Deno.kill(pid, "SIGKILL");
  const gone = async () => await Deno.readTextFile(`/proc/${pid}/stat`).then(() => undefined, () => true);
  await eventually(gone, "the end of the pager");
};

async function onlyPager(): Promise<number> {
  const pagers: number[] = [];
  for (const { name } of Deno.readDirSync("/proc")) {
    const stat = /^\d+$/.test(name) ? await Deno.readTextFile(`/proc/${name}/stat`).catch(() => "") : "";
    if (stat.includes("(torpor-pager)") && stat.split(") ")[1]!.split(" ")[1] === String(Deno.pid)) {
      pagers.push(Number(name));
    }
  }
  assertEquals(pagers.length, 1, "there is a pager");
  return pagers[0]!;
}

/** Fills the data directory's file system to the last byte. */
const fillDisk: Fault = async ({ host }) => {
  const { code } = await new Deno.Command("dd", {
    args: ["if=/dev/zero", `of=${host.layout.home}/ballast`, "bs=4096", "status=none"],
    stderr: "null",
  }).output();
  assertEquals(code, 1, "the file system has an end");
};

for (const [what, fault] of [["the VMM is killed", killVmm], ["the pager is killed", killPager]] as const) {
  for (const [operation, steps] of [["pause", PAUSE], ["checkpoint", CHECKPOINT], ["resume", RESUME]] as const) {
    Deno.test(`${what} at each step of a ${operation}: no byte is wrong`, async (t) => {
      await withProgram(async (program) => {
        for (const step of steps) {
          await t.step(step, () => withScene(program, "tmp", (scene) => faultAt(scene, operation, step, fault)));
        }
      });
    });
  }
}

for (const [operation, steps] of [["pause", PAUSE], ["checkpoint", CHECKPOINT], ["resume", ["resume.disk"]]] as const) {
  Deno.test(`the disk is full at each step of a ${operation}: no byte is wrong, and it works again with room`, async (t) => {
    await withProgram(async (program) => {
      for (const step of steps) {
        await t.step(step, () => withScene(program, "small", (scene) => faultAt(scene, operation, step, fillDisk)));
      }
    });
  });
}

Deno.test("a checkpoint that begins before the pager knows where the memory is misses no written page", async () => {
  await withProgram(async (program) => {
    await withScene(program, "tmp", async ({ host, id }) => {
      await host.manager.pause(host.call(id));
      host.driver.expected.set(id, host.driver.vms.get(id)!.saved!);
      let pager = 0;
      host.sabotage = async (step) => {
        if (step === "resume.spawn_vmm") Deno.kill(pager = await onlyPager(), "SIGSTOP");
        if (step === "checkpoint.stop") Deno.kill(pager, "SIGCONT");
      };
      await host.manager.resume(host.call(id), { timeoutSec: 0, snapshotId: "" });
      const snapshotId = newId();
      await host.manager.snapshot(host.call(id), { snapshotId, name: "", keepSandbox: true });
      await requireStored(host, snapshotId, host.driver.vms.get(id)!.saved!);
    });
  });
});

Deno.test("a flipped bit in a snapshot's files is refused at the resume, or found by a verification and refused from then on", async (t) => {
  await withProgram(async (program) => {
    await withScene(program, "tmp", async ({ host, id }) => {
      await host.manager.pause(host.call(id));
      const snapshotId = host.manager.get(id).record.snapshot_id!;
      const { memoryData, memoryHeader, state, manifest, disk } = host.layout.snapshot(snapshotId);
      const resume = () => host.manager.resume(host.call(id), { timeoutSec: 0, snapshotId: "" });
      // Before anybody has read it, nobody knows what is in it.
      assertEquals(await badFiles(host, snapshotId), ["disk.raw unchecked"]);
      await sealDisk(host.layout, snapshotId, UNPACED);
      assertEquals(await badFiles(host, snapshotId), []);
      const refusals = { "memory.header": memoryHeader, state, "manifest.json": manifest };
      for (const [file, path] of Object.entries(refusals)) {
        await t.step(`${file}: refused, and named by a verification`, () =>
          withFlippedBit(path, async () => {
            assertEquals(await outcomeOf(resume()), "snapshot_corrupt");
            assertEquals(host.manager.get(id).record.state, "paused");
            assertEquals(await badFiles(host, snapshotId), [`${file} damaged`]);
          }));
      }
      // Reading all of it would make a resume as slow as the guest is big: a verification does, and a resume asks for that.
      for (const [file, path] of Object.entries({ "memory.data": memoryData, "disk.raw": disk })) {
        await t.step(`${file}: found by a verification, refused from then on, and reported`, async () => {
          await withFlippedBit(path, async () => {
            assertEquals(await badFiles(host, snapshotId), [`${file} damaged`]);
            assertEquals(await outcomeOf(resume()), "snapshot_corrupt");
            assertEquals(await reasonOf(host, id), "snapshot_corrupt");
            const keep = { snapshotId: newId(), name: "", keepSandbox: true };
            assertEquals(await outcomeOf(host.manager.snapshot(host.call(id), keep)), "snapshot_corrupt");
          });
          assertEquals(await badFiles(host, snapshotId), []);
        });
      }
      host.driver.expected.set(id, host.driver.vms.get(id)!.saved!);
      await resume();
      assertEquals(await host.driver.vms.get(id)!.compareAll(), undefined);
    });
  });
});

/** Of the snapshot's own files those that are not known to be good. */
async function badFiles(host: PropertyHost, snapshotId: string): Promise<string[]> {
  const { verified } = await host.client.inspectSnapshot({ snapshotId, verify: true });
  const own = verified.filter((file) => file.snapshotId === snapshotId);
  assert(own.length >= 5, "all files are told of");
  const told = own.filter(({ file, verdict }) => verdict !== "good" && !isUnknown(own, file));
  return told.map(({ file, verdict }) => `${file} ${verdict}`);
}

/** Without a manifest nobody knows how the others must be. */
function isUnknown(own: { file: string; verdict: string }[], file: string): boolean {
  return file !== "manifest.json" && own.some(({ file, verdict }) => file === "manifest.json" && verdict === "damaged");
}

async function reasonOf(host: PropertyHost, sandboxId: string): Promise<string> {
  const { sandboxes } = await host.client.listSandboxes({});
  return sandboxes.find((sandbox) => sandbox.sandboxId === sandboxId)!.reason;
}

/** Runs the operation with a fault at one of its steps, then looks where everything is. */
async function faultAt(scene: Scene, operation: string, step: string, fault: Fault): Promise<void> {
  const { host, id } = scene;
  const vm = host.driver.vms.get(id)!;
  if (operation === "resume") {
    await host.manager.pause(host.call(id));
    scene.paused = copyImage(vm.saved!);
    host.driver.expected.set(id, scene.paused);
  }
  let done = false;
  host.sabotage = async (at) => {
    if (at !== step) return;
    host.sabotage = undefined;
    await fault(scene);
    done = true;
  };
  const snapshotId = newId();
  const calls: Record<string, () => Promise<unknown>> = {
    pause: () => host.manager.pause(host.call(id)),
    checkpoint: () => host.manager.snapshot(host.call(id), { snapshotId, name: "", keepSandbox: true }),
    resume: () => host.manager.resume(host.call(id), { timeoutSec: 0, snapshotId: "" }),
  };
  const outcome = await outcomeOf(calls[operation]!());
  assert(done, "the step was reached, and the fault was there");
  await Deno.remove(`${host.layout.home}/ballast`).catch(() => {});
  if (operation === "pause" && outcome === "success") scene.paused = copyImage(vm.saved!);
  if (operation === "checkpoint" && outcome === "success") await requireStored(host, snapshotId, vm.saved!);
  await requireWhole(scene, outcome);
}

/** Either the VM runs on with all its bytes, or the sandbox is paused with those of its newest snapshot, and says why. */
async function requireWhole(scene: Scene, outcome: string): Promise<void> {
  const { host, id, paused } = scene;
  const sandbox = host.manager.get(id);
  await eventually(async () => isSettled(sandbox) || undefined, "a VM with all of its processes, or none");
  assertEquals(Array.from(Deno.readDirSync(host.layout.staging)), []);
  if (sandbox.record.state === "running") {
    assertEquals(await host.driver.vms.get(id)!.compareAll(), undefined);
    await host.manager.pause(host.call(id));
    scene.paused = copyImage(host.driver.vms.get(id)!.saved!);
  } else {
    assertEquals(sandbox.record.state, "paused");
    if (outcome !== "success") assertNotEquals(sandbox.record.reason, "");
  }
  await requireStored(host, sandbox.record.snapshot_id!, scene.paused);
  host.driver.expected.set(id, sandbox.record.state === "paused" ? scene.paused : paused);
  await host.manager.resume(host.call(id), { timeoutSec: 0, snapshotId: "" });
  assertEquals(await host.driver.vms.get(id)!.compareAll(), undefined);
}

/** A lost VM has been noticed, a lost pager has a successor. */
function isSettled({ record, vm }: ReturnType<PropertyHost["manager"]["get"]>): boolean {
  if (record.state !== "running") return true;
  return vm !== undefined && !vm.ended && (vm.pager?.process.signal(0) ?? true);
}

async function requireStored(host: PropertyHost, snapshotId: string, image: GuestImage): Promise<void> {
  assertEquals(firstDifference(image, await readStoredImage(host.layout, snapshotId)), undefined);
}

async function outcomeOf(call: Promise<unknown>): Promise<string> {
  return await call.then(() => "success", (error) => String(error.code ?? error));
}

async function withProgram(work: (program: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    await work(await compile("user_vmm.c", directory));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** @param storage "small": the data directory is a file system of its own, which can be filled. */
async function withScene(
  program: string,
  storage: "tmp" | "small",
  work: (scene: Scene) => Promise<void>,
): Promise<void> {
  await using host = await PropertyHost.start({ program, tracking: "pagemap_scan", smallDisk: storage === "small" });
  const random = new Random(1);
  const id = await host.create(MEMORY_MB);
  const change = async () => {
    for (let left = 6; left > 0; left--) await guestStep(host.driver.vms.get(id)!, random);
  };
  await change();
  await host.manager.pause(host.call(id));
  const paused = copyImage(host.driver.vms.get(id)!.saved!);
  host.driver.expected.set(id, paused);
  await host.manager.resume(host.call(id), { timeoutSec: 0, snapshotId: "" });
  await change();
  await work({ host, id, paused });
}

async function withFlippedBit(path: string, work: () => Promise<void>): Promise<void> {
  const good = await Deno.readFile(path);
  const bad = good.slice();
  bad[Math.floor(bad.length / 2)]! ^= 1;
  await Deno.writeFile(path, bad);
  try {
    await work();
  } finally {
    await Deno.writeFile(path, good);
  }
}
