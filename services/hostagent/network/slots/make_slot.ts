import { type Descriptor, openTap, setNetworkSetting } from "@torpor/ffi";
import { applyPolicy, limitRate } from "../policy/mod.ts";
import { DEFAULT_POLICY, GUEST_NETWORK, type NetworkConfig, type Slot, TAP_DEVICE, UPLINK_DEVICE } from "../types.ts";
import { findSlots } from "./found_slots.ts";
import { namespacePath, type NetworkPrograms, runIp } from "./programs.ts";

/** A slot that no virtual machine uses yet. The device goes away with the last descriptor of it: this one, or the VMM's. */
export interface PreparedSlot {
  slot: Slot;
  tap: Descriptor;
}

/**
 * Makes a slot's namespace, its devices, and its rules for a sandbox that nothing was said about. On failure nothing of it is
 * left.
 * @throws TorporError `unavailable`, NativeError.
 */
export async function makeSlot(programs: NetworkPrograms, config: NetworkConfig, slot: Slot): Promise<PreparedSlot> {
  await using undo = new AsyncDisposableStack();
  undo.defer(() => removeSlot(programs, config, slot));
  await runIp(programs, [
    `netns add ${slot.namespace}`,
    // Its peer is born in the slot's namespace: no device of it is ever seen in the agent's.
    `link add ${slot.vethHost} type veth peer name ${UPLINK_DEVICE} netns ${slot.namespace}`,
    // Without the address that IPv6 gives by itself: nothing of the host is to be reached by it.
    `link set ${slot.vethHost} addrgenmode none`,
    `address add ${slot.hostAddress}/31 dev ${slot.vethHost}`,
    `link set ${slot.vethHost} up`,
  ]);
  const there = { netnsPath: namespacePath(slot.namespace) };
  await setNetworkSetting("ipv4/ip_forward", "1", there);
  const tap = undo.use(await openTap(TAP_DEVICE, there));
  await runIp(programs, insideLines(slot), slot.namespace);
  await limitRate(config, slot);
  await applyPolicy({ config, slot }, DEFAULT_POLICY);
  undo.move();
  return { slot, tap };
}

function insideLines({ hostAddress, slotAddress }: Slot): string[] {
  const { gatewayMac, gateway, prefix, gateway6, prefix6 } = GUEST_NETWORK;
  return [
    "link set lo up",
    `link set ${UPLINK_DEVICE} addrgenmode none`,
    `address add ${slotAddress}/31 dev ${UPLINK_DEVICE}`,
    `link set ${UPLINK_DEVICE} up`,
    `link set ${TAP_DEVICE} address ${gatewayMac} addrgenmode none`,
    `address add ${gateway}/${prefix} dev ${TAP_DEVICE}`,
    `address add ${gateway6}/${prefix6} dev ${TAP_DEVICE} nodad`,
    `link set ${TAP_DEVICE} up`,
    `route add default via ${hostAddress}`,
  ];
}

/**
 * Removes a slot whose virtual machine has ended: with its namespace go its rules, connections and neighbours. What of it is gone
 * already does not matter.
 * @throws TorporError `unavailable`.
 */
export async function removeSlot(programs: NetworkPrograms, config: NetworkConfig, slot: Slot): Promise<void> {
  const { namespaces, devices } = await findSlots(config);
  const lines = [
    // The kernel takes a namespace down in the background; without this the device would be there until then.
    ...(devices.has(slot.index) ? [`link delete ${slot.vethHost}`] : []),
    ...(namespaces.has(slot.index) ? [`netns delete ${slot.namespace}`] : []),
  ];
  if (lines.length > 0) await runIp(programs, lines);
}
