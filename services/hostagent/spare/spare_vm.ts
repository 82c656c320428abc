import { type Descriptor, openUserfaultfdDevice, socketPair } from "@torpor/ffi";
import { newId } from "@torpor/ids";
import type { Jail, Jails } from "../confinement/mod.ts";
import { GuestMemory } from "../memory/guest_memory.ts";
import type { TrackingMethod } from "../memory/tracking/method.ts";
import { takeNetwork, type VmNetwork, type VmNetworks } from "../network/vm_network.ts";
import { createEmptyDisk } from "../storage/disk.ts";
import { removeIfPresent } from "../storage/durable_file.ts";
import type { Layout, SandboxPaths } from "../storage/layout.ts";
import type { Vmm, VmmDriver } from "../vmm/driver.ts";

/** What a VMM must know when it starts. */
export interface VmShape {
  vcpus: number;
  memoryMb: number;
  /** Size of the writable disk, bytes. */
  diskBytes: number;
  /** Path of the read-only base image. */
  baseImage: string;
}

/** What starting a spare VMM needs of its host. */
export interface SpareHost {
  layout: Layout;
  driver: VmmDriver;
  tracking: TrackingMethod;
  jails?: Jails;
  networks?: VmNetworks;
}

/** A VMM that has started and waits for a device state; no sandbox owns it yet. Disposing it kills it. */
export class SpareVm implements AsyncDisposable {
  readonly vmm: Vmm;
  readonly memory: GuestMemory;
  readonly jail: Jail | undefined;
  /** What it may reach is not said yet. */
  readonly network: VmNetwork;
  /** The pager's end of the connection; the VMM's message waits in it. */
  readonly pagerSocket: Descriptor;
  readonly #paths: SandboxPaths;
  readonly #resources: AsyncDisposableStack;

  private constructor(
    parts: {
      vmm: Vmm;
      memory: GuestMemory;
      jail?: Jail;
      network: VmNetwork;
      pagerSocket: Descriptor;
      paths: SandboxPaths;
    },
    resources: AsyncDisposableStack,
  ) {
    this.vmm = parts.vmm;
    this.memory = parts.memory;
    this.jail = parts.jail;
    this.network = parts.network;
    this.pagerSocket = parts.pagerSocket;
    this.#paths = parts.paths;
    this.#resources = resources;
  }

  /** Starts a VMM in a directory of its own. @throws TorporError `vm_start_failed`, NativeError, Deno.errors. */
  static async start(host: SpareHost, shape: VmShape, signal: AbortSignal): Promise<SpareVm> {
    const { layout, driver, tracking } = host;
    const id = newId();
    const paths = layout.spare(id);
    await using resources = new AsyncDisposableStack();
    resources.defer(() => removeIfPresent(paths.directory));
    await Deno.mkdir(paths.directory, { recursive: true, mode: 0o700 });
    await createEmptyDisk(paths.disk, shape.diskBytes);
    const jail = resources.use(host.jails?.create(shape));
    const memory = resources.use(GuestMemory.create(id, shape.memoryMb));
    const network = resources.use(await takeNetwork(host));
    const [pagerSocket, vmmSocket] = socketPair();
    resources.use(pagerSocket);
    using vmmEnd = vmmSocket;
    using device = openUserfaultfdDevice();
    const config = { sandboxId: id, paths, memoryFd: memory.fd, tapFd: network.tapFd, jail, ...shape };
    const link = { userfaultfdDeviceFd: device.fd, socketFd: vmmEnd.fd, tracking: tracking === "pagemap_scan" };
    const vmm = resources.use(await driver.restore(config, link, signal));
    network.handedOver();
    return new SpareVm({ vmm, memory, jail, network, pagerSocket, paths }, resources.move());
  }

  /**
   * Gives its files a sandbox's names: the VMM has its disk open, and a unix socket is reached by any name of its file.
   * From now on the caller owns VMM, memory, jail and network, and closes the socket. On failure nothing has been handed over.
   */
  async handOver(to: SandboxPaths): Promise<void> {
    const { disk, qmpSocket, agentSocket, consoleSocket, vmmLog } = this.#paths;
    await Deno.rename(disk, to.disk);
    await Deno.rename(qmpSocket, to.qmpSocket);
    await Deno.rename(agentSocket, to.agentSocket);
    await Deno.rename(consoleSocket, to.consoleSocket);
    await Deno.rename(vmmLog, to.vmmLog);
    this.#resources.move();
    await removeIfPresent(this.#paths.directory);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}
