import { assertEquals, assertLess } from "@std/assert";
import type { Lane, Scenario } from "../lane.ts";

const FILE_PAGES = 8_000;
const PAGE_BYTES = 4096;
/** The guest reports free pages two seconds after it freed them. */
const REPORTED_WITHIN_MS = 120_000;
const POLL_MS = 500;

/** What a guest frees leaves the host (KVM's mappings of it with it), is not stored, and never comes back as old bytes. */
export const freedMemory: Scenario = {
  name: "freed-memory",
  async run(lane) {
    const id = await lane.create();
    const bytes = FILE_PAGES * PAGE_BYTES;
    await lane.exec(id, `head -c ${bytes} /dev/urandom > /dev/shm/freed; head -c 4000000 /dev/urandom > /dev/shm/kept`);
    const kept = await lane.exec(id, "md5sum /dev/shm/kept");
    const first = await lane.client.pauseSandbox({ sandboxId: id });
    await lane.client.resumeSandbox({ sandboxId: id });
    // Loaded by the pager, then freed: the pager learns of it by a REMOVE event, and must serve zeros from then on.
    await lane.exec(id, "md5sum /dev/shm/freed");
    const loaded = await residentPages(lane, id);
    await lane.exec(id, "rm /dev/shm/freed");
    const left = await untilFewer(lane, id, loaded - FILE_PAGES / 2);

    const second = await lane.client.pauseSandbox({ sandboxId: id });
    assertLess(Number(second.snapshot!.pagesData), Number(first.snapshot!.pagesData) - FILE_PAGES / 2);
    await lane.client.resumeSandbox({ sandboxId: id });
    assertEquals(await lane.exec(id, "md5sum /dev/shm/kept"), kept);
    // Takes the freed pages again: a file of zeros must read as zeros.
    const zeros = `head -c ${bytes} /dev/zero > /dev/shm/zeros; tr -d '\\0' < /dev/shm/zeros | wc -c`;
    assertEquals(await lane.exec(id, zeros), "0");
    return { resident_pages_loaded: loaded, resident_pages_freed: left };
  },
};

async function residentPages(lane: Lane, sandboxId: string): Promise<number> {
  return Number((await lane.client.getMemoryStats({ sandboxId })).pagesResident);
}

async function untilFewer(lane: Lane, sandboxId: string, pages: number): Promise<number> {
  const deadline = Date.now() + REPORTED_WITHIN_MS;
  let resident = await residentPages(lane, sandboxId);
  while (resident >= pages) {
    if (Date.now() > deadline) throw new Error(`${resident} pages still take memory, not less than ${pages}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    resident = await residentPages(lane, sandboxId);
  }
  return resident;
}
