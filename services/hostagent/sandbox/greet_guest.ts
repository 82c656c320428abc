import { TorporError } from "@torpor/errors";
import type { RunningVm } from "./running_vm.ts";

/** Bytes for the guest's random number generator: siblings of one snapshot must not draw the same numbers. */
const ENTROPY_BYTES = 32;

/**
 * Waits for the guest's agent, sets the guest's clock and reseeds its random numbers.
 * @returns how far the guest's clock was behind, milliseconds.
 * @throws TorporError `vm_gone` when the VM ends meanwhile, `guest_unreachable`, `guest_protocol`; the signal's reason.
 */
export async function greetGuest(vm: RunningVm, signal: AbortSignal): Promise<number> {
  const ended = new AbortController();
  vm.vmm.process.exited.then(() => ended.abort(new TorporError("vm_gone", "the VM ended before its agent answered")));
  const channel = await vm.channel(AbortSignal.any([signal, ended.signal]));
  const entropy = crypto.getRandomValues(new Uint8Array(ENTROPY_BYTES));
  const { behindMs } = await channel.setClock({ unixNs: BigInt(Date.now()) * 1_000_000n, entropy });
  return behindMs;
}
