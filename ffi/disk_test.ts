import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { copyRanges, crc32c, dataRuns, exchange, fileCrc32c, memfdCreate, NativeError, pread, pwrite } from "./mod.ts";

const PAGE = 4096;

Deno.test("parts of files are put together, and the checksum is that of the bytes", async () => {
  using one = memfdCreate("one", 4 * PAGE);
  using other = memfdCreate("other", 4 * PAGE);
  using target = memfdCreate("target", 4 * PAGE);
  await pwrite(one.fd, new Uint8Array(PAGE).fill(1), 2 * PAGE);
  await pwrite(other.fd, new Uint8Array(PAGE).fill(2), 0);
  const copied = await copyRanges([one.fd, other.fd], [
    { source: 1, sourceOffset: 0, targetOffset: PAGE, length: PAGE },
    { source: 0, sourceOffset: 2 * PAGE, targetOffset: 3 * PAGE, length: PAGE },
  ], target.fd);
  const bytes = new Uint8Array(4 * PAGE);
  await pread(target.fd, bytes, 0);
  assertEquals([copied, bytes[0], bytes[PAGE], bytes[2 * PAGE], bytes[3 * PAGE]], [2 * PAGE, 0, 2, 0, 1]);
  assertEquals(await fileCrc32c(target.fd, bytes.length), crc32c(bytes));
  assertEquals((await assertRejects(() => fileCrc32c(target.fd, 5 * PAGE), NativeError)).code, "native_enodata");
  assertEquals((await dataRuns(target.fd, 4 * PAGE)).map(({ kind, pageCount }) => [kind, pageCount]), [
    ["zero", 1],
    ["data", 1],
    ["zero", 1],
    ["data", 1],
  ]);
});

Deno.test("two directories swap their names, or nothing happens", async () => {
  const home = await Deno.makeTempDir();
  for (const name of ["one", "other"]) {
    await Deno.mkdir(`${home}/${name}`);
    await Deno.writeTextFile(`${home}/${name}/was`, name);
  }
  exchange(`${home}/one`, `${home}/other`);
  assertEquals(await Deno.readTextFile(`${home}/one/was`), "other");
  assertEquals(await Deno.readTextFile(`${home}/other/was`), "one");
  const error = assertThrows(() => exchange(`${home}/one`, `${home}/none`), NativeError);
  assertEquals([error.code, await Deno.readTextFile(`${home}/one/was`)], ["native_enoent", "other"]);
  await Deno.remove(home, { recursive: true });
});
