/** The chains of chains_test.ts find what they are there to find: each kind of damage makes one of a few chains fail. */
import { assertGreater, assertStringIncludes } from "@std/assert";
import { fsync, openFile, pread, presentPages, privatePages, pwrite, scanDirty } from "@torpor/ffi";
import {
  crc32c,
  decodeHeader,
  encodeHeader,
  extentsOf,
  ExtentTableBuilder,
  formatManifest,
  parseManifest,
  ZERO_SOURCE,
} from "@torpor/snapshot";
import { dataPages } from "../../services/hostagent/memory/different_pages.ts";
import { mappedAddress } from "../../services/hostagent/memory/guest_address.ts";
import { Sibling } from "../../services/hostagent/memory/sibling.ts";
import { andInto } from "../../services/hostagent/memory/tracking/bitmap.ts";
import type { TrackingMethod } from "../../services/hostagent/memory/tracking/method.ts";
import { compile } from "./harness/build.ts";
import type { PropertyHost, Sabotage } from "./harness/property_host.ts";
import { runChains } from "./harness/run_chains.ts";

/** Where a pager has its statistics memfd, with the bitmap of pages that were given back at this offset's value. */
const STATS_FD = 5;
const REMOVED_OFFSET_AT = 40;
const CHAINS = 12;
const FIRST_SEED = 1;

interface Damage {
  tracking?: TrackingMethod;
  sharedBase?: boolean;
  sabotage: Sabotage;
}

const damages: Record<string, Damage> = {
  "a page of the base that is wrong": {
    sharedBase: true,
    async sabotage(host, step, sandboxId) {
      const pager = step === "pause.stop" ? host.manager.get(sandboxId).vm?.pager : undefined;
      if (!(pager instanceof Sibling)) return;
      const { base } = pager;
      const pages = await presentPages(base.memoryFd, base.memoryBytes);
      andInto(pages, dataPages(base.table));
      const address = await mappedAddress(base.process.pid, base.memoryFd, base.memoryBytes);
      await flipInProcess(base.process.pid, address, pages);
    },
  },
  "a page put over the base that is wrong": {
    sharedBase: true,
    async sabotage(host, step, sandboxId) {
      if (step !== "resume.load_device_state") return;
      const { pid } = host.driver.vms.get(sandboxId)!.process;
      const memory = await mappedBase(pid);
      if (!memory) return;
      // It has loaded nothing yet: what is its own was put there.
      const { own } = await privatePages({ pid, ...memory });
      await flipInProcess(pid, memory.address, own);
    },
  },
  "written pages that a scan before the pause has taken": {
    tracking: "pagemap_scan",
    sharedBase: false,
    async sabotage(host, step, sandboxId) {
      const { vmm, pager, memory } = host.manager.get(sandboxId).vm ?? {};
      if (step !== "pause.dirty_scan" || !pager) return;
      const address = pager.stats().baseHostVirtAddr;
      await scanDirty({ pid: vmm!.process.pid, address, sizeBytes: memory!.sizeBytes, protect: true });
    },
  },
  "pages given back that nobody noted": {
    sharedBase: false,
    async sabotage(host, step, sandboxId) {
      const pager = host.manager.get(sandboxId).vm?.pager;
      if (step !== "pause.dirty_scan" || !pager) return;
      using stats = pager.process.duplicateDescriptor(STATS_FD);
      const header = await Deno.readFile(`/proc/self/fd/${stats.fd}`);
      const offset = Number(new DataView(header.buffer).getBigUint64(REMOVED_OFFSET_AT, true));
      await pwrite(stats.fd, new Uint8Array(header.length - offset), offset);
    },
  },
  "a bit of stored memory that has flipped": {
    async sabotage(host, step, sandboxId) {
      const paths = newestPaths(host, step, sandboxId);
      if (paths) await flipBit(paths.memoryData);
    },
  },
  "a bit of a stored disk that has flipped": {
    async sabotage(host, step, sandboxId) {
      const paths = newestPaths(host, step, sandboxId);
      if (!paths) return;
      const isWhole = await Deno.stat(paths.disk).then(() => true, () => false);
      await flipBit(isWhole ? paths.disk : paths.diskData);
    },
  },
  "zeros that a table does not tell": {
    async sabotage(host, step, sandboxId) {
      const paths = newestPaths(host, step, sandboxId);
      if (paths) await dropZeros(paths);
    },
  },
};

for (const [what, { tracking, sharedBase, sabotage }] of Object.entries(damages)) {
  Deno.test(`chains notice ${what}`, async () => {
    const directory = await Deno.makeTempDir();
    try {
      const program = await compile("user_vmm.c", directory);
      const chains = { program, first: FIRST_SEED, count: CHAINS, maxWrong: 1 };
      const { wrong } = await runChains({ ...chains, tracking, sharedBase, sabotage });
      assertGreater(wrong.length, 0);
      for (const report of wrong) assertStringIncludes(report, "WrongBytes");
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  });
}

type Paths = ReturnType<PropertyHost["layout"]["snapshot"]>;

/** The newest snapshot of a sandbox that is about to be resumed. */
function newestPaths(host: PropertyHost, step: string, sandboxId: string): Paths | undefined {
  if (step !== "resume.verify") return undefined;
  const id = host.manager.list().find((sandbox) => sandbox.id === sandboxId)?.record.snapshot_id;
  return id ? host.layout.snapshot(id) : undefined;
}

/** Where a sibling's VMM has mapped its base; undefined for another VMM. */
async function mappedBase(pid: number): Promise<{ address: bigint; sizeBytes: number } | undefined> {
  const line = (await Deno.readTextFile(`/proc/${pid}/maps`)).split("\n").find((text) =>
    text.includes("memfd:torpor-base-")
  );
  if (!line) return undefined;
  const [start, end] = line.split(" ", 1)[0]!.split("-").map((text) => BigInt(`0x${text}`)) as [bigint, bigint];
  return { address: start, sizeBytes: Number(end - start) };
}

/** Flips a bit in the last of some pages of a process's memory. */
async function flipInProcess(pid: number, address: bigint, pages: Uint8Array): Promise<void> {
  const byte = pages.findLastIndex((bits) => bits !== 0);
  if (byte < 0) return;
  const page = byte * 8 + 31 - Math.clz32(pages[byte]!);
  using memory = openFile(`/proc/${pid}/mem`, { read: true, write: true });
  const at = Number(address) + page * 4096 + 100;
  const bytes = new Uint8Array(1);
  await pread(memory.fd, bytes, at);
  await pwrite(memory.fd, Uint8Array.of(bytes[0]! ^ 1), at);
}

async function flipBit(path: string): Promise<void> {
  const bytes = await Deno.readFile(path);
  if (bytes.length === 0) return;
  using file = openFile(path, { read: true, write: true });
  const at = Math.floor(bytes.length / 2);
  await pwrite(file.fd, Uint8Array.of(bytes[at]! ^ 1), at);
  await fsync(file.fd);
}

/** As a table would look that cannot say "zero": what was zeroed goes on as what was before it. */
async function dropZeros(paths: Paths): Promise<void> {
  const table = decodeHeader(await Deno.readFile(paths.memoryHeader));
  const builder = new ExtentTableBuilder(table.kind, table.generation);
  let last = { source: ZERO_SOURCE, sourceOffset: 0 };
  for (const extent of extentsOf(table)) {
    if (extent.source !== ZERO_SOURCE) last = extent;
    if (last.source === ZERO_SOURCE || extent.length > table.lengths[0]!) builder.addZero(extent.length);
    else builder.addData(extent.length, table.sources[last.source]!, last.sourceOffset);
  }
  const header = encodeHeader(builder.build());
  await Deno.writeFile(paths.memoryHeader, header);
  const manifest = parseManifest(await Deno.readTextFile(paths.manifest));
  manifest.files.memory_header = { bytes: header.length, crc32c: crc32c(header) };
  await Deno.writeTextFile(paths.manifest, formatManifest(manifest));
}
