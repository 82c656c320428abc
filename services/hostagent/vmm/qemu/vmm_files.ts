import { type Descriptor, openFile, unixListen } from "@torpor/ffi";
import { type BootSource, VMM_MEMORY_FD, type VmmConfig } from "../driver.ts";

/** The numbers of a VMM's descriptors: all that it has of the host's files. */
export const VMM_FDS = {
  memory: VMM_MEMORY_FD,
  userfaultfdDevice: 4,
  pagerSocket: 5,
  sharedBase: 6,
  tap: 7,
  qmp: 10,
  console: 11,
  agent: 12,
  baseImage: 13,
  disk: 14,
  kernel: 15,
  initramfs: 16,
  lease: 17,
} as const;

/** One connection of the agent's is served at a time. */
const BACKLOG = 1;

/** A descriptor here, and the number that it gets inside the VMM. */
export interface Inherited {
  childFd: number;
  fd: number;
}

/**
 * Opens what a VMM works with, so that it needs no right to any file or directory: its disks, the sockets that it listens on and,
 * to boot, its kernel. Disposing it closes them here. @throws NativeError when one is missing.
 */
export class VmmFiles implements Disposable {
  readonly descriptors: Inherited[] = [];
  readonly #opened = new DisposableStack();

  constructor({ paths, baseImage }: Pick<VmmConfig, "paths" | "baseImage">, source?: BootSource) {
    using opened = new DisposableStack();
    const add = (childFd: number, descriptor: Descriptor) => {
      this.descriptors.push({ childFd, fd: opened.use(descriptor).fd });
    };
    add(VMM_FDS.baseImage, openFile(baseImage, { read: true }));
    add(VMM_FDS.disk, openFile(paths.disk, { read: true, write: true }));
    if (source) {
      add(VMM_FDS.kernel, openFile(source.kernel, { read: true }));
      add(VMM_FDS.initramfs, openFile(source.initramfs, { read: true }));
    }
    add(VMM_FDS.qmp, unixListen(paths.qmpSocket, BACKLOG));
    add(VMM_FDS.console, unixListen(paths.consoleSocket, BACKLOG));
    add(VMM_FDS.agent, unixListen(paths.agentSocket, BACKLOG));
    this.#opened.use(opened.move());
  }

  [Symbol.dispose](): void {
    this.#opened.dispose();
  }
}
