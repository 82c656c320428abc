import {
  type Descriptor,
  openFile,
  pread,
  preadSync,
  type Process,
  pwrite,
  receiveDescriptors,
  sendDescriptors,
} from "@torpor/ffi";
import { TorporError } from "@torpor/errors";
import { type DiskCopy, type Vmm, VMM_MEMORY_FD } from "../../../services/hostagent/vmm/driver.ts";
import { copyImage, firstDifference, type GuestImage, PAGE } from "./guest_image.ts";
import type { SilentGuest } from "./silent_guest.ts";

/** As in user_vmm.c. */
const OPERATIONS = {
  store: 1,
  device_in: 2,
  load: 3,
  device_out: 4,
  clear: 5,
  balloon: 6,
  touch: 7,
  writer: 8,
  run: 9,
  stop: 10,
} as const;
const REPLY_TIMEOUT_MS = 60_000;
const REGISTER_BYTES = 64;
/** The VMM's own writes into guest memory while it saves its devices go to this page, as QEMU's virtio queues do. */
const DEVICE_PAGE = 1;

/** A part of the guest's memory or disk, bytes. */
export interface Range {
  offset: number;
  length: number;
}

/** What a VMM is made of. */
export interface UserVmmParts {
  process: Process;
  control: Descriptor;
  window: Descriptor;
  diskPath: string;
  guest: SilentGuest;
  commandLineMark: string;
  /** What the guest is expected to be when its vCPUs start. */
  image: GuestImage;
  /** Guest memory is a private mapping of a base. */
  privateMemory: boolean;
}

/**
 * A VM without a CPU (user_vmm.c), and the model of what its memory, disk and devices must hold: each method changes both.
 * Guest memory is a memfd behind the real shim, userfaultfd and pager.
 */
export class UserVmm implements Vmm {
  readonly process: Process;
  readonly commandLineMark: string;
  /** The model. While the writer runs it is behind in the writer's pages; `stopVcpus` brings it up to date. */
  readonly image: GuestImage;
  /** The model at the moment of the last `saveDeviceState`: what a snapshot that was taken then must hold. */
  saved: GuestImage | undefined;
  readonly #control: Descriptor;
  readonly #window: Descriptor;
  readonly #disk: Descriptor;
  readonly #guest: SilentGuest;
  readonly #privateMemory: boolean;
  #writer: Range = { offset: 0, length: 0 };
  #running = false;
  /** The process was ended: nothing can be asked any more. */
  gone = false;

  /** Takes over the parts. */
  constructor(parts: UserVmmParts) {
    this.process = parts.process;
    this.commandLineMark = parts.commandLineMark;
    this.image = parts.image;
    this.#control = parts.control;
    this.#window = parts.window;
    this.#guest = parts.guest;
    this.#privateMemory = parts.privateMemory;
    // Opened when the VMM starts, as QEMU does: before a resume has filled it.
    this.#disk = openFile(parts.diskPath, { read: true, write: true });
  }

  /** Writes bytes: by the CPU, or by a device, that is by the kernel. */
  async write(offset: number, bytes: Uint8Array<ArrayBuffer>, by: "cpu" | "device"): Promise<void> {
    await pwrite(this.#window.fd, bytes, offset);
    await this.#command(by === "cpu" ? "store" : "device_in", { offset, length: bytes.length });
    this.image.memory.set(bytes, offset);
    this.#count(offset);
  }

  /** Writes zeros. */
  async clear(range: Range): Promise<void> {
    await this.#command("clear", range);
    this.image.memory.fill(0, range.offset, range.offset + range.length);
    this.#count(range.offset);
  }

  /** Writes what is there already. */
  async touch(range: Range): Promise<void> {
    await this.#command("touch", range);
  }

  /**
   * Gives whole pages back to the host: they are zero afterwards, whatever the pager fetches ahead meanwhile.
   * @returns what is not, or undefined.
   */
  async balloon(range: Range): Promise<string | undefined> {
    await this.#command("balloon", range);
    const given = this.image.memory.subarray(range.offset, range.offset + range.length).fill(0);
    if (this.#privateMemory) return await this.compare(range, "device");
    // Read from the file: through the guest's mapping, it would be loaded.
    using memory = this.process.duplicateDescriptor(VMM_MEMORY_FD);
    const now = new Uint8Array(range.length);
    preadSync(memory.fd, now, range.offset);
    return firstDifference({ ...this.image, memory: given.slice() }, { memory: now });
  }

  /** Writes to the disk, as a device does for the guest. */
  async writeDisk(offset: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    await pwrite(this.#disk.fd, bytes, offset);
    this.image.disk.set(bytes, offset);
    this.#count(offset);
  }

  /** Lets a vCPU write these pages over and over while vCPUs run; an empty range ends it. The vCPUs must be stopped. */
  async setWriter(range: Range): Promise<void> {
    await this.#command("writer", range);
    this.#writer = range;
  }

  /** Reads memory and compares it with the model. @returns what differs, or undefined. */
  async compare(range: Range, by: "cpu" | "device"): Promise<string | undefined> {
    await this.#command(by === "cpu" ? "load" : "device_out", range);
    const memory = new Uint8Array(range.length);
    preadSync(this.#window.fd, memory, range.offset);
    const expected = { ...this.image, memory: this.image.memory.slice(range.offset, range.offset + range.length) };
    return firstDifference(expected, { memory });
  }

  /** Reads all memory and all of the disk and compares them with the model. The vCPUs must be stopped or idle. */
  async compareAll(): Promise<string | undefined> {
    const disk = new Uint8Array(this.image.disk.length);
    await pread(this.#disk.fd, disk, 0);
    return await this.compare({ offset: 0, length: this.image.memory.length }, "cpu") ??
      firstDifference(this.image, { disk });
  }

  /** It has no network device. */
  async setLink(): Promise<void> {}

  async startVcpus(): Promise<void> {
    await this.#command("run");
    this.#running = true;
  }

  /** Copies at the moment of `finish`, when the vCPUs stand still: a copy that follows the writes comes to the same. */
  async copyDisk(fd: number): Promise<DiskCopy> {
    return {
      inStep: Promise.resolve(),
      finish: () => pwrite(fd, this.image.disk, 0),
      [Symbol.asyncDispose]: async () => {},
    };
  }

  async stopVcpus(): Promise<void> {
    const written = await this.#command("stop");
    this.#running = false;
    this.#applyWriter(Number(written));
  }

  async isRunning(): Promise<boolean> {
    return this.#running;
  }

  /** Its writes to the disk are the test's own, which fail there. */
  readonly diskFault = undefined;

  onDiskFault(): Disposable {
    return { [Symbol.dispose]() {} };
  }

  async prepareDeviceState(): Promise<void> {}

  async saveDeviceState(fd: number): Promise<void> {
    // As a VMM that flushes its queues: memory changes while the devices are saved.
    await this.write(DEVICE_PAGE * PAGE, crypto.getRandomValues(new Uint8Array(256)), "device");
    crypto.getRandomValues(this.image.registers);
    await pwrite(fd, this.image.registers, 0);
    this.saved = copyImage(this.image);
  }

  async loadDeviceState(fd: number): Promise<void> {
    const registers = new Uint8Array(REGISTER_BYTES);
    await pread(fd, registers, 0);
    const difference = firstDifference(this.image, { registers });
    if (difference) throw new TorporError("resume_failed", `another device state: ${difference}`);
  }

  async release(): Promise<void> {
    await this.process.release();
    this.#close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.process[Symbol.asyncDispose]();
    this.#close();
    await this.#guest[Symbol.asyncDispose]();
  }

  #close(): void {
    this.gone = true;
    for (const descriptor of [this.#control, this.#window, this.#disk]) descriptor.close();
  }

  /** A guest's registers change with everything that it does. */
  #count(offset: number): void {
    this.image.registers[offset % REGISTER_BYTES]! += 1;
  }

  #applyWriter(written: number): void {
    const pages = this.#writer.length / PAGE;
    for (let count = Math.max(0, written - pages); count < written; count++) {
      this.image.memory.set(writerPage(count), this.#writer.offset + (count % pages) * PAGE);
    }
  }

  async #command(operation: keyof typeof OPERATIONS, { offset, length }: Range = { offset: 0, length: 0 }) {
    const command = BigUint64Array.of(BigInt(OPERATIONS[operation]), BigInt(offset), BigInt(length));
    sendDescriptors(this.#control.fd, new Uint8Array(command.buffer), []);
    const { data } = await receiveDescriptors(this.#control.fd, { timeoutMs: REPLY_TIMEOUT_MS });
    if (data.length !== 8) throw new TorporError("vm_gone", `the VMM ended during ${operation}`);
    return new DataView(data.buffer).getBigUint64(0, true);
  }
}

/** Registers of a VM that boots. */
export function freshRegisters(): Uint8Array<ArrayBuffer> {
  return new Uint8Array(REGISTER_BYTES);
}

/** What the writer's page number `count` holds. */
function writerPage(count: number): Uint8Array<ArrayBuffer> {
  const words = new BigUint64Array(PAGE / 8);
  const first = BigInt.asUintN(64, BigInt(count + 1) * 0x9e3779b97f4a7c15n);
  for (let word = 0; word < words.length; word++) words[word] = first + BigInt(word);
  return new Uint8Array(words.buffer);
}
