import { assert, assertEquals, assertFalse, assertThrows } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { isId, newId, requireId, requireTemplateName } from "./mod.ts";

Deno.test("new ids have the form and do not repeat", () => {
  const ids = new Set(Array.from({ length: 1000 }, newId));
  assertEquals(ids.size, 1000);
  for (const id of ids) assert(isId(id));
});

Deno.test("what could leave a directory is no id", () => {
  for (
    const odd of [
      "",
      ".",
      "..",
      "../../../../etc/pass",
      "a".repeat(19),
      "a".repeat(21),
      "A".repeat(20),
      "a\0".repeat(10),
      null,
      7,
    ]
  ) {
    assertFalse(isId(odd));
    const error = assertThrows(() => requireId(odd, "sandbox_id"), TorporError);
    assertEquals([error.code, error.field], ["invalid_argument", "sandbox_id"]);
  }
});

Deno.test("template names", () => {
  assertEquals(requireTemplateName("base"), "base");
  for (const odd of ["", "-a", "A", "a/b", "..", "a".repeat(64)]) {
    assertThrows(() => requireTemplateName(odd), TorporError);
  }
});
