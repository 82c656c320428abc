import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  allocatedBytes,
  compareDirty,
  crc32c,
  type Descriptor,
  exportMemory,
  memfdCreate,
  NativeError,
  openFile,
  openTap,
  PAGE_SIZE,
  pagemapScanSupported,
  pagerStatsSize,
  pread,
  presentPages,
  pwrite,
  readPagerStats,
  scanDirty,
  setNetworkSetting,
} from "./mod.ts";

const PAGES = 1000;

function bitmapOf(pages: Iterable<number>): Uint8Array<ArrayBuffer> {
  const bitmap = new Uint8Array(PAGES / 8);
  for (const page of pages) bitmap[page >> 3]! |= 1 << (page & 7);
  return bitmap;
}

/** Pages 10…19 hold data, 20…24 zeros that are present, page 500 data; the rest are holes. */
async function guestMemory(): Promise<Descriptor> {
  const memory = memfdCreate("guest", PAGES * PAGE_SIZE);
  for (let page = 10; page < 25; page++) {
    await pwrite(memory.fd, new Uint8Array(PAGE_SIZE).fill(page < 20 ? page : 0), page * PAGE_SIZE);
  }
  await pwrite(memory.fd, new Uint8Array(PAGE_SIZE).fill(50), 500 * PAGE_SIZE);
  return memory;
}

Deno.test("a full export lists every page and stores those that are not zero", async () => {
  using memory = await guestMemory();
  using output = outputFile();
  const before = allocatedBytes(memory.fd);
  const result = await exportMemory({ memfd: memory.fd, sizeBytes: PAGES * PAGE_SIZE, dirty: null, output: output.fd });
  assertEquals(result.runs, [
    { pageIndex: 0, pageCount: 10, kind: "zero", outputOffset: 0 },
    { pageIndex: 10, pageCount: 10, kind: "data", outputOffset: 0 },
    { pageIndex: 20, pageCount: 480, kind: "zero", outputOffset: 0 },
    { pageIndex: 500, pageCount: 1, kind: "data", outputOffset: 10 * PAGE_SIZE },
    { pageIndex: 501, pageCount: 499, kind: "zero", outputOffset: 0 },
  ]);
  assertEquals([result.bytesWritten, result.dataPages, result.zeroPages], [11 * PAGE_SIZE, 11, 989]);
  const written = new Uint8Array(12 * PAGE_SIZE);
  assertEquals(await pread(output.fd, written, 0), 11 * PAGE_SIZE);
  assertEquals([written[0], written[9 * PAGE_SIZE], written[10 * PAGE_SIZE]], [10, 19, 50]);
  assertEquals(result.crc32c, crc32c(written.slice(0, 11 * PAGE_SIZE)));
  assertEquals(allocatedBytes(memory.fd), before);
});

Deno.test("present pages are those with memory behind them, zero or not", async () => {
  using memory = await guestMemory();
  const present = await presentPages(memory.fd, PAGES * PAGE_SIZE);
  assertEquals(present, bitmapOf([...Array.from({ length: 15 }, (_, i) => 10 + i), 500]));
  await assertRejects(() => presentPages(memory.fd, 1), NativeError);
});

Deno.test("a partial export holds exactly the pages asked for", async () => {
  using memory = await guestMemory();
  using output = outputFile();
  const dirty = bitmapOf([0, 19, 20, 999]);
  const result = await exportMemory({ memfd: memory.fd, sizeBytes: PAGES * PAGE_SIZE, dirty, output: output.fd });
  assertEquals(result.runs, [
    { pageIndex: 0, pageCount: 1, kind: "zero", outputOffset: 0 },
    { pageIndex: 19, pageCount: 1, kind: "data", outputOffset: 0 },
    { pageIndex: 20, pageCount: 1, kind: "zero", outputOffset: 0 },
    { pageIndex: 999, pageCount: 1, kind: "zero", outputOffset: 0 },
  ]);
});

Deno.test("an export without pages is empty", async () => {
  using memory = await guestMemory();
  using output = outputFile();
  const dirty = bitmapOf([]);
  const result = await exportMemory({ memfd: memory.fd, sizeBytes: PAGES * PAGE_SIZE, dirty, output: output.fd });
  assertEquals(result, { runs: [], bytesWritten: 0, dataPages: 0, zeroPages: 0, crc32c: 0 });
});

Deno.test("an export that cannot be written is an error with its errno", async () => {
  using memory = await guestMemory();
  using full = openFile("/dev/full", { write: true });
  const sizeBytes = PAGES * PAGE_SIZE;
  const failed = (dirty: Uint8Array<ArrayBuffer> | null, size = sizeBytes) =>
    assertRejects(() => exportMemory({ memfd: memory.fd, sizeBytes: size, dirty, output: full.fd }), NativeError);
  assertEquals((await failed(null)).code, "native_enospc");
  assertEquals((await failed(new Uint8Array(3))).code, "native_einval");
  assertEquals((await failed(null, 100)).code, "native_einval");
});

Deno.test("this kernel tells written pages exactly", () => {
  assertEquals(pagemapScanSupported(), true);
});

Deno.test("memory that nobody tracks is an error, not an empty diff", async () => {
  const maps = await Deno.readTextFile("/proc/self/maps");
  const address = BigInt("0x" + maps.slice(0, maps.indexOf("-")));
  const error = await assertRejects(
    () => scanDirty({ pid: Deno.pid, address, sizeBytes: PAGE_SIZE }),
    NativeError,
  );
  assertEquals([error.code, error.operation], ["native_eperm", "scanDirty"]);
});

Deno.test("a comparison refuses a broken header", async () => {
  using memory = await guestMemory();
  const comparison = { memfd: memory.fd, sizeBytes: PAGES * PAGE_SIZE, header: new Uint8Array(100), sources: [] };
  assertEquals((await assertRejects(() => compareDirty(comparison), NativeError)).code, "native_ebadmsg");
});

Deno.test("statistics before a pager started, and of something else", () => {
  using fresh = memfdCreate("stats", pagerStatsSize(1 << 30));
  const stats = readPagerStats(fresh.fd);
  assertEquals([stats.state, stats.faults, stats.uffdFd], ["starting", 0, null]);
  using short = memfdCreate("stats", 100);
  assertEquals(assertThrows(() => readPagerStats(short.fd), NativeError).code, "native_einval");
  assert(pagerStatsSize(1 << 30) < 2 << 20);
});

Deno.test("a tap or a setting of a namespace that does not exist is an error", async () => {
  const nowhere = { netnsPath: "/no/such/namespace" };
  const error = await assertRejects(() => openTap("torpor-test0", nowhere), NativeError);
  assertEquals(error.code, "native_enoent");
  await assertRejects(() => setNetworkSetting("ipv4/ip_forward", "1", nowhere), NativeError);
  const outside = await assertRejects(() => setNetworkSetting("../kernel/hostname", "x"), NativeError);
  assertEquals(outside.code, "native_einval");
});

/** A file for output that nobody has to remove. */
function outputFile(): Descriptor {
  const path = Deno.makeTempFileSync();
  const file = openFile(path, { read: true, write: true });
  Deno.removeSync(path);
  return file;
}
