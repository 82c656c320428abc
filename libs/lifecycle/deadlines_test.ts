import { assert, assertEquals } from "@std/assert";
import { operationDeadlineMs } from "./deadlines.ts";

Deno.test("a pause's deadline grows with the guest's memory; a create's does not", () => {
  const small = { memoryMb: 512 };
  const large = { memoryMb: 65_536 };
  assert(operationDeadlineMs("pause", large) > operationDeadlineMs("pause", small) + 1_000_000);
  assertEquals(operationDeadlineMs("create", large), operationDeadlineMs("create", small));
  // A delete may have to wait for the pause that it interrupts.
  assert(operationDeadlineMs("delete", large) >= operationDeadlineMs("pause", large));
});
