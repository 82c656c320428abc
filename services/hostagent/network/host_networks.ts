import type { Descriptor } from "@torpor/ffi";
import { TorporError } from "@torpor/errors";
import { log } from "@torpor/telemetry";
import type { EgressProxy } from "./egress/types.ts";
import { removeHostRules } from "./host_rules.ts";
import { applyPolicy } from "./policy/mod.ts";
import { slotAt, slotCount } from "./slots/addresses.ts";
import { allFound, findSlots } from "./slots/found_slots.ts";
import type { NetworkPrograms } from "./slots/programs.ts";
import { SlotPool } from "./slots/slot_pool.ts";
import { DEFAULT_POLICY, type NetworkConfig, type NetworkPolicy, type Slot } from "./types.ts";
import { NO_VM_NETWORK, type SlotRecord, type VmNetwork, type VmNetworks } from "./vm_network.ts";

/** What slots are made with. */
export interface SlotHost {
  programs: NetworkPrograms;
  config: NetworkConfig;
  egress?: EgressProxy;
}

/** A slot for each virtual machine of this host. */
export class HostNetworks implements VmNetworks {
  readonly capability = "network";
  readonly #host: SlotHost;
  readonly #pool: SlotPool;
  readonly #adopted = new Set<number>();

  private constructor(host: SlotHost, pool: SlotPool) {
    this.#host = host;
    this.#pool = pool;
  }

  /**
   * Shows that slots can be made, by making one.
   * @param target how many slots are prepared ahead.
   * @throws TorporError `unavailable`, NativeError: with the reason why none can be made.
   */
  static async open(host: SlotHost, target: number): Promise<HostNetworks> {
    const pool = new SlotPool(host.programs, host.config, target);
    for (const index of allFound(await findSlots(host.config))) pool.occupy(index);
    await pool.probe();
    return new HostNetworks(host, pool);
  }

  async take(): Promise<VmNetwork> {
    const { slot, tap } = await this.#pool.take();
    return new VmSlot(this.#host, this.#pool, slot, tap);
  }

  async adopt(record: SlotRecord | null, policy: NetworkPolicy): Promise<VmNetwork> {
    if (!record) return NO_VM_NETWORK;
    try {
      const slot = await this.#find(record);
      const network = new VmSlot(this.#host, this.#pool, slot);
      await network.apply(policy);
      this.#adopted.add(slot.index);
      return network;
    } catch (error) {
      // It is swept away then: the guest goes on without network, and has one again when it is resumed.
      log("error", "slot_not_adopted", { index: record.index }, error);
      return NO_VM_NETWORK;
    }
  }

  async adoptedAll(): Promise<void> {
    try {
      const { config, egress } = this.#host;
      for (const index of allFound(await findSlots(config))) {
        if (this.#adopted.has(index) || this.#pool.has(index)) continue;
        log("info", "slot_swept", { index });
        this.#pool.giveBack(slotAt(config, index));
      }
      await egress?.retain([...this.#adopted].map((index) => slotAt(config, index).slotAddress));
    } catch (error) {
      log("error", "slots_not_swept", {}, error);
    }
    this.#pool.start();
  }

  /** Where virtual machines are left running, the rules of the host stay with them. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { config, egress } = this.#host;
    await this.#pool[Symbol.asyncDispose]();
    const left = allFound(await findSlots(config)).size > 0;
    await egress?.close({ keep: left });
    if (!left) await removeHostRules(config);
  }

  /** @throws TorporError `unavailable` when it is not there, or not as this agent's configuration would have it. */
  async #find(record: SlotRecord): Promise<Slot> {
    const { config } = this.#host;
    if (record.index >= slotCount(config)) throw lost(record, "is beyond the range of slots");
    const slot = slotAt(config, record.index);
    const same = slot.hostAddress === record.host_address && slot.slotAddress === record.slot_address;
    if (!same) throw lost(record, "is of another range of addresses");
    const { namespaces, devices } = await findSlots(config);
    if (!namespaces.has(slot.index) || !devices.has(slot.index)) throw lost(record, "is gone");
    return slot;
  }
}

function lost({ index, slot_address }: SlotRecord, what: string): TorporError {
  return new TorporError("unavailable", `slot ${index} (${slot_address}) ${what}`);
}

/** A slot in the hands of one virtual machine. */
class VmSlot implements VmNetwork {
  readonly connected = true;
  readonly #host: SlotHost;
  readonly #pool: SlotPool;
  readonly #slot: Slot;
  #tap: Descriptor | undefined;
  /** Its rules are those that it was made with, a moment ago. */
  #fresh: boolean;
  #applying: Promise<void> | undefined;
  #given = false;

  constructor(host: SlotHost, pool: SlotPool, slot: Slot, tap?: Descriptor) {
    this.#host = host;
    this.#pool = pool;
    this.#slot = slot;
    this.#tap = tap;
    this.#fresh = tap !== undefined;
  }

  get tapFd(): number | undefined {
    return this.#tap?.fd;
  }

  get record(): SlotRecord {
    const { index, hostAddress, slotAddress } = this.#slot;
    return { index, host_address: hostAddress, slot_address: slotAddress };
  }

  handedOver(): void {
    this.#tap?.close();
    this.#tap = undefined;
  }

  async apply(policy: NetworkPolicy): Promise<void> {
    if (this.#given) throw new TorporError("unavailable", `slot ${this.#slot.index} was given back`);
    const { config, egress } = this.#host;
    const inEffect = this.#fresh && isDefault(policy);
    this.#fresh = false;
    if (!inEffect) await (this.#applying = applyPolicy({ config, egress, slot: this.#slot }, policy));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#given) return;
    this.#given = true;
    this.handedOver();
    // Whoever has asked for it has the error.
    await this.#applying?.catch(() => {});
    try {
      await this.#host.egress?.setRules(this.#slot, undefined);
    } catch (error) {
      // Its rules are for an address that is about to be nobody's; who gets it next sets them first.
      log("warn", "egress_rules_not_removed", { namespace: this.#slot.namespace }, error);
    }
    this.#pool.giveBack(this.#slot);
  }
}

/** Slots are made with the rules for it. */
function isDefault(policy: NetworkPolicy): boolean {
  const { allowInternetAccess, allowOut, denyOut } = policy;
  return allowInternetAccess === DEFAULT_POLICY.allowInternetAccess && allowOut.length + denyOut.length === 0;
}
