/** Tap devices. @module */
import { Descriptor } from "./descriptor.ts";
import { check } from "./errors.ts";
import { cString, native } from "./library.ts";

/**
 * Opens the tap device `name` (made if it does not exist) for one queue with 12-byte virtio-net headers, in the network namespace
 * at `netnsPath` or in this process's. A device that was made by this call goes away when its descriptor is closed.
 */
export function openTap(name: string, options: { netnsPath?: string } = {}): Descriptor {
  const namespace = options.netnsPath === undefined ? null : cString("openTap", options.netnsPath);
  return new Descriptor(check("openTap", native().torpor_open_tap(cString("openTap", name), namespace), name));
}
