import { type Descriptor, PAGE_SIZE, type PagerStats, type Process, sendDescriptors, socketPair } from "@torpor/ffi";

/**
 * The message of a VMM to its pager, once more, for the pager's successor (ffi/include/handshake.h).
 * @param stats of the dead pager. @returns a socket in which it waits, the caller's. @throws NativeError.
 */
export function handOver(vmm: Process, stats: PagerStats, memoryBytes: number): Descriptor {
  const { baseHostVirtAddr, uffdFd, tracking } = stats;
  using userfaultfd = vmm.duplicateDescriptor(uffdFd ?? -1);
  const [receiving, sending] = socketPair();
  using _sending = sending;
  const region = `{"base_host_virt_addr":${baseHostVirtAddr},"size":${memoryBytes},"offset":0,` +
    `"page_size":${PAGE_SIZE},"page_size_kib":${PAGE_SIZE},"tracking":${tracking},"uffd_fd":${uffdFd}}`;
  try {
    sendDescriptors(sending.fd, new TextEncoder().encode(`[${region}]`), [userfaultfd.fd]);
    return receiving;
  } catch (error) {
    receiving.close();
    throw error;
  }
}
