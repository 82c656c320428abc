import { type Descriptor, newNetworkNamespace, openTap } from "@torpor/ffi";
import { log } from "@torpor/telemetry";
import { NO_VM_NETWORK, type VmNetwork, type VmNetworks } from "./vm_network.ts";

/**
 * For a host that gives its guests no network. Each VMM gets a tap device all the same, in a namespace that leads nowhere: a
 * guest that has learned to leave checksums and segmentation to its device cannot go on with one that does neither. Where that
 * is not allowed either (no CAP_NET_ADMIN, no /dev/net/tun) there is no tap device, and snapshots of hosts with one do not fit.
 */
export class IsolatedNetworks implements VmNetworks {
  readonly capability = undefined;
  readonly #namespace: Descriptor | undefined;
  readonly #sweep: () => Promise<void>;

  private constructor(namespace: Descriptor | undefined, sweep: () => Promise<void>) {
    this.#namespace = namespace;
    this.#sweep = sweep;
  }

  /** @param sweep removes what is left of an agent that gave its guests a network. */
  static async open(sweep: () => Promise<void>): Promise<IsolatedNetworks> {
    try {
      using opened = new DisposableStack();
      const namespace = opened.use(await newNetworkNamespace());
      (await openIsolatedTap(namespace)).close();
      opened.move();
      return new IsolatedNetworks(namespace, sweep);
    } catch (error) {
      log("info", "no_tap_devices", {}, error);
      return new IsolatedNetworks(undefined, sweep);
    }
  }

  async take(): Promise<VmNetwork> {
    return this.#namespace ? isolated(await openIsolatedTap(this.#namespace)) : NO_VM_NETWORK;
  }

  adopt(): Promise<VmNetwork> {
    return Promise.resolve(NO_VM_NETWORK);
  }

  async adoptedAll(): Promise<void> {
    try {
      await this.#sweep();
    } catch (error) {
      log("error", "slots_not_swept", {}, error);
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#namespace?.close();
    return Promise.resolve();
  }
}

/** The kernel numbers them. */
async function openIsolatedTap(namespace: Descriptor): Promise<Descriptor> {
  return await openTap("tap%d", { netnsPath: `/proc/self/fd/${namespace.fd}` });
}

function isolated(tap: Descriptor): VmNetwork {
  let fd: number | undefined = tap.fd;
  const close = () => {
    if (fd !== undefined) tap.close();
    fd = undefined;
  };
  return {
    ...NO_VM_NETWORK,
    get tapFd() {
      return fd;
    },
    handedOver: close,
    async [Symbol.asyncDispose]() {
      close();
    },
  };
}
