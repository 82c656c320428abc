import { assertEquals, assertLess, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { createEmptyDisk, createWritableDisk, fillDisk } from "./disk.ts";

Deno.test("a writable disk is a sparse ext4 file system of the size asked for", async () => {
  const directory = await Deno.makeTempDir();
  const path = `${directory}/disk.raw`;
  await createWritableDisk(path, 512);
  const { size, blocks } = await Deno.stat(path);
  assertEquals(size, 512 * 2 ** 20);
  assertLess(blocks! * 512, 2 ** 20);
  const magic = (await Deno.readFile(path)).subarray(1080, 1082);
  assertEquals([...magic], [0x53, 0xef]);
  await Deno.remove(directory, { recursive: true });
});

Deno.test("a disk that cannot be made is an error with mke2fs' reason as its cause", async () => {
  const error = await assertRejects(() => createWritableDisk("/no/such/directory/disk.raw", 64), TorporError);
  assertEquals([error.code, (error.cause as Error).message !== ""], ["vm_start_failed", true]);
});

Deno.test("a disk is filled with the same bytes and the same holes while its size stays", async () => {
  const directory = await Deno.makeTempDir();
  const [from, to] = [`${directory}/from`, `${directory}/to`];
  const sizeBytes = 64 * 2 ** 20;
  await createEmptyDisk(from, sizeBytes);
  using file = await Deno.open(from, { write: true });
  await file.seek(10 * 2 ** 20, Deno.SeekMode.Start);
  await file.write(crypto.getRandomValues(new Uint8Array(65536)));
  await createEmptyDisk(to, sizeBytes);
  await fillDisk(from, to, sizeBytes);
  assertEquals(await Deno.readFile(to), await Deno.readFile(from));
  assertLess((await Deno.stat(to)).blocks! * 512, 2 ** 20);
  await assertRejects(() => createEmptyDisk(to, sizeBytes), Deno.errors.AlreadyExists);
  await Deno.remove(directory, { recursive: true });
});
