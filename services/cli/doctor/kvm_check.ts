import { TorporError } from "@torpor/errors";
import { apiTarget, openApi } from "../client/api.ts";
import type { Check } from "./check.ts";

const SLOW = "guests run under QEMU's emulator (TCG): correct, but booting takes seconds instead of a fraction of one";

/**
 * Whether guests run on the processor itself. The device's presence says little (nested virtualisation may be broken
 * behind it), so the host agent boots a real guest once; this shows what came of it.
 */
export async function kvmCheck(): Promise<Check> {
  const device = await openDevice();
  const probed = await hostAccelerator();
  if (probed === "kvm") return { name: "KVM", state: "ok", found: "a guest started under it" };
  if (probed === "tcg") {
    const found = device ? `no KVM: ${device}` : "/dev/kvm opens, but a guest did not start under it";
    return { name: "KVM", state: "limited", found, cost: SLOW };
  }
  if (device) return { name: "KVM", state: "limited", found: `no KVM: ${device}`, cost: SLOW };
  return {
    name: "KVM",
    state: "unknown",
    found: "/dev/kvm opens; the host agent tries it with a real guest when it starts (./torpor up)",
  };
}

/** Why /dev/kvm does not open, or undefined when it does. */
async function openDevice(): Promise<string | undefined> {
  try {
    (await Deno.open("/dev/kvm", { read: true, write: true })).close();
    return undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "there is no /dev/kvm";
    if (error instanceof Error) return `/dev/kvm does not open (${error.message})`;
    throw error;
  }
}

/** "kvm" or "tcg" as this deployment's host agent reports it; undefined when none runs. */
async function hostAccelerator(): Promise<string | undefined> {
  try {
    using api = openApi(await apiTarget());
    const { hosts } = await api.hosts.listHosts({});
    const capability = hosts.flatMap((host) => host.capabilities).find((name) => name.startsWith("accelerator:"));
    return capability?.slice("accelerator:".length);
  } catch (error) {
    // Nothing runs, or not enough of it: the doctor is there for that, too.
    if (error instanceof TorporError) return undefined;
    throw error;
  }
}
