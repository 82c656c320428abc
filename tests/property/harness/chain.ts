import { newId } from "@torpor/ids";
import { copyImage, firstDifference, type GuestImage, PAGE } from "./guest_image.ts";
import { guestStep } from "./guest_steps.ts";
import type { PropertyHost } from "./property_host.ts";
import type { Random } from "./random.ts";
import { readStoredImage } from "./stored_image.ts";
import type { UserVmm } from "./user_vmm.ts";

/** A byte that is not what the model says, or something that is left behind. */
export class WrongBytes extends Error {}

/** A sandbox of a chain: running, or paused as this image. */
interface ChainSandbox {
  id: string;
  paused: GuestImage | undefined;
}

/** A kept snapshot of a chain. */
interface ChainSnapshot {
  id: string;
  image: GuestImage;
}

const MAX_SANDBOXES = 4;
const MAX_SNAPSHOTS = 3;
/** How often a chain begins with sandboxes that are spawned from one snapshot: by chance they come late, and live short. */
const SIBLINGS_CHANCE = 0.5;
/** An injected failure must leave a running VM whose next pause or checkpoint is right. */
const PAUSE_STEPS = ["stop", "device_state", "dirty_scan", "export_memory", "disk", "commit"] as const;
const CHECKPOINT_STEPS = [
  "copy_disk",
  "copy_memory",
  "stop",
  "disk",
  "device_state",
  "last_round",
  "go_on",
  "commit",
] as const;

/** One random chain of operations on one host, checked against the model after each. */
export class Chain {
  /** What has been done, for the report of a failure. */
  readonly steps: string[] = [];
  readonly #host: PropertyHost;
  readonly #random: Random;
  readonly #sandboxes: ChainSandbox[] = [];
  readonly #snapshots: ChainSnapshot[] = [];

  constructor(host: PropertyHost, random: Random) {
    this.#host = host;
    this.#random = random;
  }

  /** @throws WrongBytes; whatever an operation fails with that must not fail. */
  async run(): Promise<void> {
    await this.#create();
    if (this.#random.chance(SIBLINGS_CHANCE)) await this.#siblings();
    for (let left = this.#random.between(3, 12); left > 0; left--) await this.#step();
    await this.#finish();
  }

  async #step(): Promise<void> {
    const running = this.#sandboxes.filter(({ paused }) => !paused);
    const paused = this.#sandboxes.filter(({ paused }) => paused);
    const room = this.#sandboxes.length < MAX_SANDBOXES;
    const random = this.#random;
    const actions: Record<string, [number, () => Promise<void>]> = {
      create: [room ? 1 : 0, () => this.#create()],
      guest: [running.length * 6, () => this.#guest(random.pick(running))],
      pause: [running.length * 5, () => this.#pause(random.pick(running))],
      failPause: [running.length, () => this.#failPause(random.pick(running))],
      resume: [paused.length * 8, () => this.#resume(random.pick(paused))],
      generations: [running.length * 2, () => this.#generations(random.pick(running))],
      keep: [this.#snapshots.length < MAX_SNAPSHOTS ? 4 : 0, () => this.#keep(random.pick(this.#sandboxes))],
      failKeep: [running.length, () => this.#failKeep(random.pick(running))],
      spawn: [room ? this.#snapshots.length * 3 : 0, () => this.#spawn(random.pick(this.#snapshots))],
      forget: [this.#snapshots.length, () => this.#forget(random.pick(this.#snapshots))],
      destroy: [this.#sandboxes.length > 1 ? 2 : 0, () => this.#destroy(random.pick(this.#sandboxes))],
      collect: [1 + paused.length * 2, () => this.#collect()],
      restart: [1, () => this.#restart()],
    };
    const weights = Object.fromEntries(Object.entries(actions).map(([name, [weight]]) => [name, weight]));
    await actions[random.weighted(weights)]![1]();
  }

  async #create(): Promise<void> {
    const memoryMb = this.#random.between(1, 4);
    this.#note(`create a sandbox with ${memoryMb} MiB`);
    const sandbox = { id: await this.#host.create(memoryMb), paused: undefined };
    this.#sandboxes.push(sandbox);
    await this.#guest(sandbox);
  }

  async #siblings(): Promise<void> {
    await this.#keep(this.#sandboxes[0]!);
    for (let left = 2; left > 0; left--) await this.#spawn(this.#snapshots[0]!);
  }

  async #guest(sandbox: ChainSandbox): Promise<void> {
    for (let left = this.#random.between(1, 8); left > 0; left--) {
      const { done, wrong } = await guestStep(this.#vm(sandbox), this.#random);
      this.#note(`${sandbox.id} ${done}`);
      if (wrong) throw new WrongBytes(`${sandbox.id} has ${wrong}`);
    }
  }

  async #pause(sandbox: ChainSandbox): Promise<void> {
    this.#note(`pause ${sandbox.id}`);
    const vm = this.#vm(sandbox);
    await this.#withWriter(vm, () => this.#host.manager.pause(this.#host.call(sandbox.id)));
    await this.#takePaused(sandbox, vm);
  }

  /** The sandbox has just been paused: what was stored must be what the VM was. */
  async #takePaused(sandbox: ChainSandbox, vm: UserVmm): Promise<void> {
    sandbox.paused = copyImage(vm.saved!);
    await this.#checkStored(this.#newest(sandbox), sandbox.paused);
  }

  async #failPause(sandbox: ChainSandbox): Promise<void> {
    const step = `pause.${this.#random.pick(PAUSE_STEPS)}`;
    this.#note(`pause ${sandbox.id}, failing at ${step}`);
    await this.#fail(sandbox, step, "pause_failed", () => this.#host.manager.pause(this.#host.call(sandbox.id)));
  }

  async #resume(sandbox: ChainSandbox): Promise<void> {
    this.#note(`resume ${sandbox.id}`);
    this.#host.driver.expected.set(sandbox.id, sandbox.paused!);
    await this.#host.manager.resume(this.#host.call(sandbox.id), { timeoutSec: 0, snapshotId: "" });
    sandbox.paused = undefined;
  }

  /** Tables with several sources, which is what compaction is for. */
  async #generations(sandbox: ChainSandbox): Promise<void> {
    for (let left = this.#random.between(2, 4); left > 0; left--) {
      await this.#pause(sandbox);
      await this.#resume(sandbox);
      await this.#guest(sandbox);
    }
    await this.#pause(sandbox);
    await this.#collect();
  }

  /** A kept snapshot of a running sandbox (a checkpoint) or of a paused one. */
  async #keep(sandbox: ChainSandbox): Promise<void> {
    const id = newId();
    this.#note(`keep ${id} of ${sandbox.id}, which ${sandbox.paused ? "is paused" : "runs"}`);
    const vm = this.#vm(sandbox);
    await this.#withWriter(sandbox.paused ? undefined : vm, () => this.#snapshot(sandbox, id));
    const image = copyImage(sandbox.paused ?? vm.saved!);
    this.#snapshots.push({ id, image });
    await this.#checkStored(id, image);
  }

  async #failKeep(sandbox: ChainSandbox): Promise<void> {
    const step = `checkpoint.${this.#random.pick(CHECKPOINT_STEPS)}`;
    this.#note(`keep ${sandbox.id}, failing at ${step}`);
    await this.#fail(sandbox, step, "snapshot_failed", () => this.#snapshot(sandbox, newId()));
  }

  async #snapshot(sandbox: ChainSandbox, snapshotId: string): Promise<void> {
    await this.#host.manager.snapshot(this.#host.call(sandbox.id), { snapshotId, name: "", keepSandbox: true });
  }

  async #spawn(snapshot: ChainSnapshot): Promise<void> {
    const id = newId();
    this.#note(`spawn ${id} from ${snapshot.id}`);
    this.#host.driver.expected.set(id, snapshot.image);
    await this.#host.spawn(id, snapshot.id);
    this.#sandboxes.push({ id, paused: undefined });
  }

  async #forget(snapshot: ChainSnapshot): Promise<void> {
    this.#note(`delete snapshot ${snapshot.id}`);
    await this.#host.client.deleteSnapshot({ snapshotId: snapshot.id });
    this.#snapshots.splice(this.#snapshots.indexOf(snapshot), 1);
    await this.#checkAllStored();
  }

  async #destroy(sandbox: ChainSandbox): Promise<void> {
    this.#note(`destroy ${sandbox.id}`);
    await this.#host.manager.destroy(this.#host.call(sandbox.id));
    this.#sandboxes.splice(this.#sandboxes.indexOf(sandbox), 1);
    await this.#checkAllStored();
  }

  /** Collection, compaction, and disks as differences. */
  async #collect(): Promise<void> {
    const { collected } = await this.#host.client.collectSnapshots({});
    this.#note(`collect: ${collected.map(({ action, bytes }) => `${action} ${bytes}`).join(", ") || "nothing"}`);
    await this.#checkAllStored();
  }

  async #restart(): Promise<void> {
    this.#note("restart the host agent");
    const running = this.#sandboxes.filter(({ paused }) => !paused);
    await this.#host.restart();
    for (const sandbox of running) await this.#takePaused(sandbox, this.#vm(sandbox));
    await this.#checkAllStored();
  }

  /** Runs an operation that must fail at `step` with `code` and leave the VM as it was, to run on. */
  async #fail(sandbox: ChainSandbox, step: string, code: string, operation: () => Promise<unknown>): Promise<void> {
    const vm = this.#vm(sandbox);
    this.#host.failAt = step;
    const outcome = await this.#withWriter(
      vm,
      () => operation().then(() => "success", (error) => String(error.code ?? error)),
    );
    this.#host.failAt = undefined;
    if (outcome !== code) throw new WrongBytes(`failing at ${step} ended in ${outcome}`);
    const left = Array.from(Deno.readDirSync(this.#host.layout.staging), ({ name }) => name);
    if (left.length > 0) throw new WrongBytes(`left in staging: ${left.join(" ")}`);
    const wrong = await vm.compareAll();
    if (wrong) throw new WrongBytes(`${sandbox.id} after a failure at ${step} has ${wrong}`);
  }

  /** Sometimes with a vCPU that writes until the VM stops, so that an operation that reads too early is seen. */
  async #withWriter<T>(vm: UserVmm | undefined, operation: () => Promise<T>): Promise<T> {
    if (!vm || this.#random.chance(0.5)) return await operation();
    const pages = this.#random.between(1, 16);
    const first = this.#random.between(2, vm.image.memory.length / PAGE - pages);
    this.#note(`  while a vCPU writes ${pages} pages from ${first}`);
    await vm.stopVcpus();
    await vm.setWriter({ offset: first * PAGE, length: pages * PAGE });
    await vm.startVcpus();
    const result = await operation();
    if (vm.gone) return result;
    await vm.stopVcpus();
    await vm.setWriter({ offset: 0, length: 0 });
    await vm.startVcpus();
    return result;
  }

  async #checkStored(snapshotId: string, image: GuestImage): Promise<void> {
    const wrong = firstDifference(image, await readStoredImage(this.#host.layout, snapshotId));
    if (wrong) throw new WrongBytes(`snapshot ${snapshotId} has ${wrong}`);
  }

  /** What one deletion takes away must not be what another snapshot reads. */
  async #checkAllStored(): Promise<void> {
    for (const { id, image } of this.#snapshots) await this.#checkStored(id, image);
    for (const sandbox of this.#sandboxes) {
      if (sandbox.paused) await this.#checkStored(this.#newest(sandbox), sandbox.paused);
    }
  }

  /** Everything that is left is read to the last byte, deleted, and must leave nothing. */
  async #finish(): Promise<void> {
    for (const snapshot of [...this.#snapshots]) {
      await this.#spawn(snapshot);
      await this.#forget(snapshot);
    }
    for (const sandbox of [...this.#sandboxes]) {
      if (sandbox.paused) await this.#resume(sandbox);
      const wrong = await this.#vm(sandbox).compareAll();
      if (wrong) throw new WrongBytes(`${sandbox.id} at the end has ${wrong}`);
      await this.#destroy(sandbox);
    }
    const { snapshots, staging, sandboxes } = this.#host.layout;
    for (const directory of [snapshots, staging, sandboxes]) {
      const names = Array.from(Deno.readDirSync(directory), ({ name }) => name);
      if (names.length > 0) throw new WrongBytes(`left in ${directory}: ${names.join(" ")}`);
    }
  }

  #newest(sandbox: ChainSandbox): string {
    return this.#host.manager.get(sandbox.id).record.snapshot_id!;
  }

  #vm(sandbox: ChainSandbox): UserVmm {
    return this.#host.driver.vms.get(sandbox.id)!;
  }

  #note(step: string): void {
    this.steps.push(step);
  }
}
