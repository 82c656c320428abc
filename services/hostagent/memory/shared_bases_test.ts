import { assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { type Descriptor, NativeError, nativeFiles, pread, socketPair } from "@torpor/ffi";
import { newId } from "@torpor/ids";
import { encodeHeader, overlayTable } from "@torpor/snapshot";
import { Jails } from "../confinement/mod.ts";
import { Layout } from "../storage/layout.ts";
import { dataPages } from "./different_pages.ts";
import { sharedBaseSupported } from "./shared_base_support.ts";
import { SharedBases } from "./shared_bases.ts";

const PAGES = 24;
const nativeDirectory = nativeFiles().library.replace(/\/[^/]+$/, "");

/** A snapshot of 24 pages, of which 8 … 15 are data. */
async function makeSource(home: string) {
  const snapshotId = newId();
  const runs = [
    { kind: "zero" as const, pageIndex: 0, pageCount: 8, outputOffset: 0 },
    { kind: "data" as const, pageIndex: 8, pageCount: 8, outputOffset: 0 },
    { kind: "zero" as const, pageIndex: 16, pageCount: 8, outputOffset: 0 },
  ];
  const table = overlayTable(undefined, { snapshotId, kind: "memory", generation: 1, sizeBytes: PAGES * 4096, runs });
  const [headerPath, dataPath] = [`${home}/header`, `${home}/data`];
  await Deno.writeFile(headerPath, encodeHeader(table));
  await Deno.writeFile(dataPath, new Uint8Array(8 * 4096).fill(7));
  return { source: { snapshotId, memoryBytes: PAGES * 4096, headerPath, sourcePaths: [dataPath] }, table };
}

async function withBases(work: (bases: SharedBases, home: string) => Promise<void>): Promise<void> {
  const home = await Deno.makeTempDir();
  try {
    await using jails = await Jails.open({ home, nativeDirectory, accelerator: "tcg", userBase: 700_000 });
    await using bases = new SharedBases({ layout: new Layout(home), nativeDirectory, enabled: true, jails });
    await work(bases, home);
  } finally {
    await Deno.remove(home, { recursive: true });
  }
}

async function joined(bases: SharedBases, source: Parameters<SharedBases["join"]>[0], stack: AsyncDisposableStack) {
  const [theirs, vmm]: Descriptor[] = socketPair();
  stack.use(vmm!);
  using _theirs = theirs!;
  return stack.use(await bases.join(source, theirs!.fd));
}

Deno.test("this kernel can share a base, and says so", async () => {
  assertEquals(await sharedBaseSupported(nativeDirectory), true);
});

Deno.test("siblings of one snapshot join one base, also after an agent's restart; of another one, another", async () => {
  await withBases(async (bases, home) => {
    await using members = new AsyncDisposableStack();
    const { source } = await makeSource(home);
    const [one, two] = await Promise.all([joined(bases, source, members), joined(bases, source, members)]);
    assertEquals(one.base, two.base);
    assertNotEquals(one.record.stats_fd, two.record.stats_fd);
    assertNotEquals((await joined(bases, (await makeSource(home)).source, members)).base, one.base);
    await using later = new SharedBases({ layout: new Layout(home), nativeDirectory, enabled: true });
    const adopted = [one, two].map(({ record }) => members.use(later.adopt(record, source.memoryBytes)!));
    assertEquals(adopted[0]!.process.pid, one.process.pid);
    assertEquals(adopted[0]!.base, adopted[1]!.base);
    assertEquals((await joined(later, source, members)).process.pid, one.process.pid);
    // What a VMM gets: readable, and of the base.
    using file = adopted[0]!.base.openForVmm();
    assertEquals(await pread(file.fd, new Uint8Array(4096), 0), 4096);
  });
});

Deno.test("who comes when a base has just ended gets a new one", async () => {
  await withBases(async (bases, home) => {
    await using members = new AsyncDisposableStack();
    const { source } = await makeSource(home);
    const first = await joined(bases, source, members);
    first.process.signal(15);
    const second = await joined(bases, source, members);
    assertNotEquals(second.process.pid, first.process.pid);
    assertEquals((await joined(bases, source, members)).base, second.base);
    assertEquals(bases.adopt(first.record, source.memoryBytes), undefined);
  });
});

Deno.test("a base is joined without its snapshot only while it runs", async () => {
  await withBases(async (bases, home) => {
    await using members = new AsyncDisposableStack();
    const { source, table } = await makeSource(home);
    const [theirs, vmm] = socketPair();
    members.use(vmm);
    members.use(theirs);
    assertEquals(await bases.joinRunning(source.snapshotId, theirs.fd), undefined);
    const first = await joined(bases, source, members);
    await Deno.remove(source.headerPath);
    for (const path of source.sourcePaths) await Deno.remove(path);
    const second = members.use((await bases.joinRunning(source.snapshotId, theirs.fd))!);
    assertEquals(second.base, first.base);
    assertEquals(second.base.table, table);
    first.process.signal(15);
    await first.process.exited;
    assertEquals(await bases.joinRunning(source.snapshotId, theirs.fd), undefined);
  });
});

Deno.test("a base whose files are broken takes nobody", async () => {
  await withBases(async (bases, home) => {
    await using members = new AsyncDisposableStack();
    const { source } = await makeSource(home);
    await Deno.truncate(source.sourcePaths[0]!, 4096);
    const error = await assertRejects(() => joined(bases, source, members), NativeError);
    assertEquals(error.code, "native_epipe");
    assertEquals(
      await Deno.readTextFile(new Layout(home).baseLog(source.snapshotId)).then((text) => text.trim()),
      "torpor-base-pager: a source is shorter than its extents",
    );
  });
});

Deno.test("pages that a table has bytes of", async () => {
  await withBases(async (_, home) => {
    const { table } = await makeSource(home);
    assertEquals(dataPages(table), Uint8Array.of(0, 255, 0));
  });
});
