import { z } from "zod";
import type { NetworkPolicy } from "./types.ts";

/** By what a restarted agent finds the slot of a virtual machine again. */
export const slotRecordSchema = z.strictObject({
  index: z.number().int().nonnegative(),
  /** The slot's two addresses: they change when the agent is configured with another range. */
  host_address: z.string(),
  slot_address: z.string(),
});

/** See {@linkcode slotRecordSchema}. */
export type SlotRecord = z.infer<typeof slotRecordSchema>;

/** The network of one virtual machine. Disposing it takes everything of it down; the virtual machine must have ended. */
export interface VmNetwork extends AsyncDisposable {
  /** For the VMM that is started with it, until {@linkcode handedOver}; undefined: there is nothing for it. */
  readonly tapFd: number | undefined;
  /** It leads somewhere: otherwise the guest is told that its cable is out. */
  readonly connected: boolean;
  /** For the sandbox's record; null: there is nothing to be found again. */
  readonly record: SlotRecord | null;
  /** The VMM has its own descriptor: the device lasts exactly as long as the VMM. */
  handedOver(): void;
  /**
   * Lets the guest reach what `policy` says, from now on. Disposing waits for it.
   * @throws TorporError `unavailable`: nothing may run with it.
   */
  apply(policy: NetworkPolicy): Promise<void>;
}

/** What a host has for its virtual machines. */
export interface VmNetworks extends AsyncDisposable {
  /** As the scheduler and the operator see it. */
  readonly capability: string | undefined;
  /** For a virtual machine that is about to start. @throws TorporError `no_capacity`, `unavailable`. */
  take(): Promise<VmNetwork>;
  /** What a virtual machine that an earlier agent started has; never throws. */
  adopt(record: SlotRecord | null, policy: NetworkPolicy): Promise<VmNetwork>;
  /** Every virtual machine that runs has been adopted: what is left of earlier agents is removed. Never throws. */
  adoptedAll(): Promise<void>;
}

/** Of a virtual machine whose network device has nothing behind it. */
export const NO_VM_NETWORK: VmNetwork = {
  tapFd: undefined,
  connected: false,
  record: null,
  handedOver() {},
  async apply() {},
  async [Symbol.asyncDispose]() {},
};

/** What is behind the network device of a virtual machine that is about to start. @throws as {@linkcode VmNetworks.take}. */
export async function takeNetwork({ networks }: { networks?: VmNetworks }): Promise<VmNetwork> {
  return await networks?.take() ?? NO_VM_NETWORK;
}
