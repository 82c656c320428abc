/** Tap devices and settings of network namespaces. @module */
import { Descriptor } from "./descriptor.ts";
import { check } from "./errors.ts";
import { cString, keepingAlive, native } from "./library.ts";

/** Where: in the network namespace at this path, or in this process's. */
export interface NamespaceOption {
  netnsPath?: string;
}

/**
 * Opens the tap device `name` (made if it does not exist) for one queue with 12-byte virtio-net headers. A device that was made by
 * this call goes away when its descriptor is closed.
 */
export async function openTap(name: string, options: NamespaceOption = {}): Promise<Descriptor> {
  const [device, namespace] = [cString("openTap", name), namespacePath("openTap", options)];
  const fd = await keepingAlive(native().torpor_open_tap(device, namespace), device, namespace);
  return new Descriptor(check("openTap", fd, name));
}

/** A network namespace without a name: it lasts as long as this descriptor and those of devices in it. */
export async function newNetworkNamespace(): Promise<Descriptor> {
  return new Descriptor(check("newNetworkNamespace", await native().torpor_new_network_namespace()));
}

/** Writes a kernel setting of a network namespace. @param name its path below /proc/sys/net, e.g. `ipv4/ip_forward`. */
export async function setNetworkSetting(name: string, value: string, options: NamespaceOption = {}): Promise<void> {
  const operation = "setNetworkSetting";
  const [setting, text] = [cString(operation, name), cString(operation, value)];
  const namespace = namespacePath(operation, options);
  const call = native().torpor_network_setting(setting, text, namespace);
  check(operation, await keepingAlive(call, setting, text, namespace), name);
}

function namespacePath(operation: string, { netnsPath }: NamespaceOption) {
  return netnsPath === undefined ? null : cString(operation, netnsPath);
}
