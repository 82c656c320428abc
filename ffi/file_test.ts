import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  allocatedBytes,
  copySparse,
  crc32c,
  fsync,
  fsyncPath,
  memfdCreate,
  NativeError,
  openFile,
  pread,
  preadSync,
  punchHole,
  pwrite,
  sizeBytes,
  tscKhz,
} from "./mod.ts";

Deno.test("what was written is read, up to the end of the file", async () => {
  const directory = await Deno.makeTempDir();
  using file = openFile(`${directory}/file`, { read: true, write: true, create: true });
  await pwrite(file.fd, new Uint8Array([1, 2, 3, 4]), 2);
  await fsync(file.fd);
  await fsyncPath(directory);
  const bytes = new Uint8Array(10);
  assertEquals(await pread(file.fd, bytes, 1), 5);
  assertEquals([...bytes.subarray(0, 5)], [0, 1, 2, 3, 4]);
  assertEquals(preadSync(file.fd, bytes, 100), 0);
  const error = await assertRejects(() => fsyncPath(`${directory}/none`), NativeError);
  assertEquals(error.code, "native_enoent");
  await Deno.remove(directory, { recursive: true });
});

Deno.test("many slow calls at once do not mix up their buffers", async () => {
  using file = memfdCreate("test", 1 << 20);
  const blocks = Array.from({ length: 200 }, (_, k) => new Uint8Array(4096).fill(k));
  await Promise.all(blocks.map((block, k) => pwrite(file.fd, block, k * 4096)));
  const read = await Promise.all(blocks.map(async (_, k) => {
    const block = new Uint8Array(4096);
    await pread(file.fd, block, k * 4096);
    return block;
  }));
  assertEquals(read, blocks);
});

Deno.test("a sparse copy has the same bytes and the same holes", async () => {
  using from = memfdCreate("from", 16 << 20);
  const path = await Deno.makeTempFile();
  using to = openFile(path, { read: true, write: true });
  const data = crypto.getRandomValues(new Uint8Array(8192));
  await pwrite(from.fd, data, 4 << 20);
  const result = await copySparse({ from: from.fd, to: to.fd, sizeBytes: 16 << 20 });
  assertEquals(result, { method: "copy", bytesCopied: 8192 });
  const copy = new Uint8Array(8192);
  await pread(to.fd, copy, 4 << 20);
  assertEquals(copy, data);
  assertEquals(sizeBytes(to.fd), 16 << 20);
  assert(allocatedBytes(to.fd) < 1 << 20);
  await Deno.remove(path);
});

Deno.test("a punched hole gives its memory back", async () => {
  using file = memfdCreate("test", 1 << 20);
  await pwrite(file.fd, new Uint8Array(1 << 20).fill(1), 0);
  punchHole(file.fd, 4096, 8192);
  assertEquals(allocatedBytes(file.fd), (1 << 20) - 8192);
  assertEquals(assertThrows(() => punchHole(file.fd, 0, 0), NativeError).code, "native_einval");
});

Deno.test("CRC-32C has its known value, also in pieces", () => {
  const text = new TextEncoder().encode("123456789");
  assertEquals(crc32c(text), 0xe3069283);
  assertEquals(crc32c(text.slice(4), crc32c(text.slice(0, 4))), 0xe3069283);
});

Deno.test("the time-stamp counter's frequency is plausible and remembered", () => {
  const khz = tscKhz();
  assert(khz > 500_000 && khz < 10_000_000);
  assertEquals(tscKhz(), khz);
});
