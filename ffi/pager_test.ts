/**
 * Shim and pager with a real QEMU: guest memory comes lazily out of a snapshot that the TypeScript writer made, is read back through
 * QEMU, and must be equal byte for byte.
 */
import { assert, assertEquals } from "@std/assert";
import { encodeHeader, type ExtentTable, overlayTable } from "@torpor/snapshot";
import {
  allocatedBytes,
  compareDirty,
  type Descriptor,
  exportMemory,
  fileIdentity,
  memfdCreate,
  nativeFiles,
  openFile,
  openUserfaultfdDevice,
  PAGE_SIZE,
  pagerStatsSize,
  pread,
  type Process,
  pwrite,
  readFaultOrder,
  readPagerStats,
  readRemovedPages,
  scanDirty,
  socketPair,
  spawn,
} from "./mod.ts";

const QEMU = "/usr/bin/qemu-system-x86_64";
const SIZE = 32 << 20;
/** QEMU lays its firmware over this part of the guest's physical memory. */
const FIRMWARE = { start: 0xc0000, end: 0x100000 };
const ids = ["aaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbb"] as const;

function outputFile(): Descriptor {
  const path = Deno.makeTempFileSync();
  const file = openFile(path, { read: true, write: true });
  Deno.removeSync(path);
  return file;
}

interface Generation {
  table: ExtentTable;
  data: Descriptor;
}

async function store(
  memory: Descriptor,
  dirty: Uint8Array<ArrayBuffer> | null,
  parent?: ExtentTable,
): Promise<Generation> {
  const generation = parent ? 2 : 1;
  const data = outputFile();
  const { runs } = await exportMemory({ memfd: memory.fd, sizeBytes: SIZE, dirty, output: data.fd });
  const snapshotId = ids[generation - 1]!;
  const table = overlayTable(parent, { snapshotId, kind: "memory", generation, sizeBytes: SIZE, runs });
  return { table, data };
}

/** Two generations: the second overwrites some pages of the first, zeroes some, and leaves the rest. */
async function makeSnapshot(): Promise<
  { expected: Uint8Array; header: Descriptor; sources: Descriptor[]; bytes: Uint8Array<ArrayBuffer> }
> {
  using memory = memfdCreate("guest", SIZE);
  const random = new Uint8Array(PAGE_SIZE);
  const put = async (page: number, zero = false) => {
    if (!zero) crypto.getRandomValues(random);
    await pwrite(memory.fd, zero ? new Uint8Array(PAGE_SIZE) : random, page * PAGE_SIZE);
  };
  for (let page = 0; page < 4000; page += page % 7 ? 1 : 3) await put(page);
  const first = await store(memory, null);
  const dirty = new Uint8Array(SIZE / PAGE_SIZE / 8);
  for (let page = 1; page < 8000; page += 41) {
    await put(page, page % 3 === 0);
    dirty[page >> 3]! |= 1 << (page & 7);
  }
  const second = await store(memory, dirty, first.table);
  const bytes = new Uint8Array(encodeHeader(second.table));
  const header = outputFile();
  await pwrite(header.fd, bytes, 0);
  const expected = new Uint8Array(SIZE);
  await pread(memory.fd, expected, 0);
  return { expected, header, sources: [first.data, second.data], bytes };
}

function startPager(socket: Descriptor, header: Descriptor, stats: Descriptor, sources: Descriptor[]): Process {
  const path = nativeFiles().pager;
  return spawn({
    path,
    argv: [path, "--handshake-fd=3", "--header-fd=4", "--stats-fd=5", ...sources.map((_, k) => `--source-fd=${6 + k}`)],
    env: {},
    descriptors: [socket, header, stats, ...sources].map(({ fd }, k) => ({ childFd: 3 + k, fd })),
    stderrFd: 2,
    deathSignal: 9,
  });
}

function startQemu(memory: Descriptor, socket: Descriptor, qmpPath: string): Process {
  using device = openUserfaultfdDevice();
  const { device: dev, inode } = fileIdentity(memory.fd);
  const backend = `memory-backend-file,id=ram,size=${SIZE},mem-path=/proc/self/fd/3,share=on`;
  return spawn({
    path: QEMU,
    argv: [
      ...["qemu", "-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg"],
      ...["-M", "microvm,acpi=on,pit=off,pic=off,memory-backend=ram", "-m", `${SIZE >> 20}M`, "-object", backend],
      ...["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
      ...["-incoming", "defer", "-qmp", `unix:${qmpPath},server=on,wait=off`],
    ],
    env: {
      LD_PRELOAD: nativeFiles().shim,
      TORPOR_SHIM_MEMFD_DEV: `${dev}`,
      TORPOR_SHIM_MEMFD_INO: `${inode}`,
      TORPOR_SHIM_SIZE: `${SIZE}`,
      TORPOR_SHIM_UFFD_DEVICE_FD: "4",
      TORPOR_SHIM_SOCKET_FD: "5",
      TORPOR_SHIM_TRACK: "1",
    },
    descriptors: [memory, device, socket].map(({ fd }, k) => ({ childFd: 3 + k, fd })),
    stderrFd: 2,
    deathSignal: 9,
  });
}

/** Resolves when QEMU listens: the socket's directory is watched until the socket is there. */
async function connectQmp(directory: string): Promise<Deno.UnixConn> {
  using watcher = Deno.watchFs(directory);
  for (;;) {
    try {
      return await Deno.connect({ transport: "unix", path: `${directory}/qmp` });
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) await watcher[Symbol.asyncIterator]().next();
      else if (!(error instanceof Deno.errors.ConnectionRefused)) throw error; // bound, but not yet listening
    }
  }
}

async function execute(connection: Deno.UnixConn, command: string, args: Record<string, unknown> = {}): Promise<void> {
  const id = crypto.randomUUID();
  await connection.write(new TextEncoder().encode(JSON.stringify({ execute: command, arguments: args, id }) + "\n"));
  const decoder = new TextDecoder();
  const chunk = new Uint8Array(65536);
  for (let text = ""; !text.includes(id);) {
    const length = await connection.read(chunk);
    if (length === null) throw new Error(`QEMU ended during ${command}`);
    text += decoder.decode(chunk.subarray(0, length), { stream: true });
    assert(!text.includes('"error"'), text);
  }
}

function blank(memory: Uint8Array): Uint8Array {
  return memory.fill(0, FIRMWARE.start, FIRMWARE.end);
}

Deno.test("fault order and removed pages are read from where the pager writes them", async () => {
  // Layout of include/pager_stats.h: 1,088 bytes, the order from the next page on, then the bitmap from the page after it.
  const order = Uint32Array.of(7, 3, 1023);
  const bitmap = Uint8Array.of(0b101, 0, 0x80);
  using stats = memfdCreate("stats", pagerStatsSize(SIZE));
  const header = new DataView(new ArrayBuffer(1088));
  const orderOffset = 4096;
  const removedOffset = orderOffset + (SIZE / PAGE_SIZE) * 4;
  header.setBigUint64(0, 0x53505250524f54n, true);
  header.setUint32(8, 2, true);
  [SIZE, SIZE / PAGE_SIZE, orderOffset, removedOffset].forEach((value, k) =>
    header.setBigUint64(16 + 8 * k, BigInt(value), true)
  );
  header.setBigUint64(176, BigInt(order.length), true);
  await pwrite(stats.fd, new Uint8Array(header.buffer), 0);
  await pwrite(stats.fd, new Uint8Array(order.buffer), orderOffset);
  await pwrite(stats.fd, bitmap, removedOffset);
  assertEquals(readFaultOrder(stats.fd), order);
  assertEquals(readRemovedPages(stats.fd).subarray(0, 4), Uint8Array.of(0b101, 0, 0x80, 0));
});

Deno.test({
  name: "a real QEMU reads its memory lazily, byte for byte, and nothing counts as written",
  ignore: !(await Deno.stat(QEMU).then(() => true, () => false)),
  async fn() {
    const directory = await Deno.makeTempDir();
    const { expected, header, sources, bytes } = await makeSnapshot();
    using memory = memfdCreate("guest", SIZE);
    using stats = memfdCreate("stats", pagerStatsSize(SIZE));
    const [vmmEnd, pagerEnd] = socketPair();
    await using pager = startPager(pagerEnd, header, stats, sources);
    await using qemu = startQemu(memory, vmmEnd, `${directory}/qmp`);
    vmmEnd.close();
    pagerEnd.close();

    using qmp = await connectQmp(directory);
    await execute(qmp, "qmp_capabilities");
    const atStart = readPagerStats(stats.fd);
    assertEquals([atStart.state, atStart.tracking], ["serving", true]);
    assert(atStart.dataPagesServed + atStart.zeroPagesServed < 200, "QEMU does not touch memory before it is asked to");

    await execute(qmp, "pmemsave", { val: 0, size: SIZE, filename: `${directory}/memory` });
    assertEquals(blank(await Deno.readFile(`${directory}/memory`)), blank(expected));

    const after = readPagerStats(stats.fd);
    const address = after.baseHostVirtAddr;
    assert(after.bytesRead[0]! > 0 && after.bytesRead[1]! > 0 && after.faultAroundPages > after.faults);
    const order = readFaultOrder(stats.fd);
    assertEquals([order.length, new Set(order).size], [after.orderCount, after.orderCount], "each page once");
    assertEquals(readRemovedPages(stats.fd).some((byte) => byte !== 0), false);
    assertEquals((await scanDirty({ pid: qemu.pid, address, sizeBytes: SIZE })).some((byte) => byte !== 0), false);
    const comparison = { memfd: memory.fd, sizeBytes: SIZE, header: bytes, sources: sources.map(({ fd }) => fd) };
    assertEquals((await compareDirty(comparison)).some((byte) => byte !== 0), false);
    assert(allocatedBytes(memory.fd) > SIZE / 2);

    using userfaultfd = qemu.duplicateDescriptor(after.uffdFd!);
    assertEquals(await Deno.readLink(`/proc/self/fd/${userfaultfd.fd}`), "anon_inode:[userfaultfd]");
    qemu.signal(9);
    assertEquals(await qemu.exited, { code: null, signal: 9 });
    assertEquals(await pager.exited, { code: 0, signal: null });
    assertEquals(readPagerStats(stats.fd).state, "stopped");
    for (const file of [header, ...sources]) file.close();
    await Deno.remove(directory, { recursive: true });
  },
});
