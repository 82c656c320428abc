import { assertEquals } from "@std/assert";
import { parseCopyEnd } from "./copy_end.ts";

Deno.test("only a sandbox's id before a colon makes a path one in a sandbox", () => {
  const id = "abcdefghij2345672345";
  assertEquals(parseCopyEnd(`${id}:/a:b`), { sandboxId: id, path: "/a:b" });
  assertEquals(parseCopyEnd(`${id}:`), { sandboxId: id, path: "" });
  for (const path of ["a", "./a:b", "C:/x", `${id}`, `./${id}:x`, "-", `${id.toUpperCase()}:/x`]) {
    assertEquals(parseCopyEnd(path), { path });
  }
});
