import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import {
  allocatedBytes,
  Descriptor,
  fileIdentity,
  memfdCreate,
  NativeError,
  openFile,
  openLibrary,
  sizeBytes,
} from "./mod.ts";

Deno.test("a descriptor is closed once and its number is never used again", () => {
  const descriptor = memfdCreate("test", 4096);
  const copy = descriptor.dup();
  assertEquals(fileIdentity(copy.fd), fileIdentity(descriptor.fd));
  descriptor.close();
  descriptor.close();
  assert(descriptor.closed);
  const error = assertThrows(() => descriptor.fd, NativeError);
  assertEquals([error.code, error.operation], ["native_ebadf", "Descriptor.fd"]);
  assertEquals(sizeBytes(copy.fd), 4096);
  copy.close();
});

Deno.test("a released descriptor belongs to the caller", () => {
  using first = memfdCreate("test", 0);
  const number = first.dup().release();
  assertEquals(sizeBytes(number), 0);
  const error = assertThrows(() => sizeBytes(1 << 20), NativeError);
  assertEquals(error.code, "native_ebadf");
  new Descriptor(number).close();
});

Deno.test("a memory file is sparse and cannot change its size", async () => {
  using memory = memfdCreate("guest", 1 << 30);
  assertEquals([sizeBytes(memory.fd), allocatedBytes(memory.fd)], [1 << 30, 0]);
  const error = assertThrows(
    () => openFile(`/proc/self/fd/${memory.fd}`, { write: true, truncate: true }),
    NativeError,
  );
  assertEquals(error.code, "native_eperm");
  assertEquals((await Deno.stat(`/proc/self/fd/${memory.fd}`)).size, 1 << 30);
});

Deno.test("openFile obeys its options", async () => {
  const directory = await Deno.makeTempDir();
  const path = `${directory}/file`;
  openFile(path, { write: true, create: true, exclusive: true, mode: 0o640 }).close();
  assertEquals((await Deno.stat(path)).mode! & 0o777, 0o640);
  const code = (options: Parameters<typeof openFile>[1], at = path) =>
    assertThrows(() => openFile(at, options), NativeError).code;
  assertEquals(code({ write: true, create: true, exclusive: true }), "native_eexist");
  assertEquals(code({ read: true, directory: true }), "native_enotdir");
  assertEquals(code({ read: true }, `${directory}/none`), "native_enoent");
  assertEquals(code({}), "native_einval");
  assertEquals(code({ read: true }, "a\0b"), "native_einval");
  openFile(directory, { read: true, directory: true }).close();
  await Deno.remove(directory, { recursive: true });
});

Deno.test("a library that cannot be loaded is a stable error with its cause", async () => {
  const path = await Deno.makeTempFile();
  const worker = new Deno.Command(Deno.execPath(), {
    args: [
      "eval",
      "--no-lock",
      `import { openLibrary } from ${JSON.stringify(import.meta.resolve("./mod.ts"))};
      try { openLibrary(${
        JSON.stringify(path)
      }); } catch (error) { console.log(error.code, error.cause instanceof Error); }`,
    ],
    env: { TORPOR_LIB_DIR: "/no/such/directory" },
    cwd: new URL("..", import.meta.url),
  });
  const { stdout } = await worker.output();
  assertStrictEquals(new TextDecoder().decode(stdout).trim(), "native_library true");
  await Deno.remove(path);
  openLibrary(); // loaded already: nothing happens
});
