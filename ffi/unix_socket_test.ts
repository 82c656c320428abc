import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  fileIdentity,
  memfdCreate,
  NativeError,
  receiveDescriptors,
  sendDescriptors,
  socketPair,
  unixConnect,
} from "./mod.ts";

Deno.test("descriptors arrive with their message; peeking leaves both", async () => {
  const [left, right] = socketPair();
  using memory = memfdCreate("memory", 4096);
  sendDescriptors(left.fd, new TextEncoder().encode("[{}]"), [memory.fd, left.fd]);
  for (const peek of [true, false]) {
    const { data, descriptors } = await receiveDescriptors(right.fd, { timeoutMs: 5000, peek });
    assertEquals(new TextDecoder().decode(data), "[{}]");
    assertEquals(descriptors.map((d) => fileIdentity(d.fd).inode), [memory, left].map((d) => fileIdentity(d.fd).inode));
    for (const descriptor of descriptors) descriptor.close();
  }
  const error = await assertRejects(() => receiveDescriptors(right.fd, { timeoutMs: 1 }), NativeError);
  assertEquals(error.code, "native_etimedout");
  left.close();
  assertEquals((await receiveDescriptors(right.fd)).data.byteLength, 0);
  right.close();
});

Deno.test("a message without descriptors, and one that cannot be sent", async () => {
  const [left, right] = socketPair();
  sendDescriptors(left.fd, new Uint8Array([7]), []);
  assertEquals((await receiveDescriptors(right.fd)).descriptors, []);
  assertEquals(
    assertThrows(() => sendDescriptors(left.fd, new Uint8Array([7]), [-1]), NativeError).code,
    "native_ebadf",
  );
  assertEquals(assertThrows(() => sendDescriptors(left.fd, new Uint8Array(), []), NativeError).code, "native_einval");
  left.close();
  right.close();
});

Deno.test("unixConnect reaches a listener", async () => {
  const directory = await Deno.makeTempDir();
  const path = `${directory}/socket`;
  assertEquals(assertThrows(() => unixConnect(path), NativeError).code, "native_enoent");
  using listener = Deno.listen({ transport: "unix", path });
  using client = unixConnect(path);
  sendDescriptors(client.fd, new TextEncoder().encode("hello"), []);
  using accepted = await listener.accept();
  const bytes = new Uint8Array(16);
  assertEquals(await accepted.read(bytes), 5);
  await Deno.remove(directory, { recursive: true });
});
