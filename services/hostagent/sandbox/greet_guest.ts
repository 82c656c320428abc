import { TorporError } from "@torpor/errors";
import type { GuestIdentity } from "../guest/wake.ts";
import type { DiskFault } from "../vmm/driver.ts";
import { diskFaultError } from "./disk_fault.ts";
import type { RunningVm } from "./running_vm.ts";

/** Bytes for the guest's random number generator: siblings of one snapshot must not draw the same numbers. */
const ENTROPY_BYTES = 32;

/** How {@linkcode greetGuest} greets. */
export interface Greeting {
  /** Absent: the guest goes on as who it was. */
  identity?: GuestIdentity;
  /** Its agent does not listen yet, and will work through each Hello: it is woken when it has answered, by the right time. */
  boots?: boolean;
}

/** Who a sandbox is from now on; a new machine id and generation with each call. */
export function newIdentity(sandboxId: string): GuestIdentity {
  return { hostname: sandboxId, machineId: randomHex(), generation: randomHex() };
}

/**
 * Waits for the guest's agent, sets the guest's clock, reseeds its random numbers, makes it who it is to be, and lets its
 * user's processes go on: all in one message, which goes out together with the first Hello.
 * @returns how far the guest's clock was behind, milliseconds.
 * @throws TorporError `vm_gone` when the VM ends meanwhile, `no_space` or `io_error` when its disk stops the guest,
 *   `guest_unreachable`, `guest_protocol`, `internal` when the guest could not do it (its user's processes are then still
 *   frozen); the signal's reason.
 */
export async function greetGuest(vm: RunningVm, signal: AbortSignal, greeting: Greeting = {}): Promise<number> {
  const ended = new AbortController();
  vm.vmm.process.exited.then(() => ended.abort(new TorporError("vm_gone", "the VM ended before its agent answered")));
  const stopped = (fault: DiskFault | undefined) => fault && ended.abort(diskFaultError(fault));
  using _listening = vm.vmm.onDiskFault(stopped);
  stopped(vm.vmm.diskFault);
  const limit = AbortSignal.any([signal, ended.signal]);
  if (greeting.boots) await vm.channel(limit);
  const entropy = crypto.getRandomValues(new Uint8Array(ENTROPY_BYTES));
  const unixNs = () => BigInt(Date.now()) * 1_000_000n;
  const { behindMs } = await vm.wake({ unixNs, entropy, identity: greeting.identity, thaw: true }, limit);
  return behindMs;
}

/** 32 digits. */
function randomHex(): string {
  return crypto.getRandomValues(new Uint8Array(16)).toHex();
}
