import { assertEquals } from "@std/assert";
import { spreadOf } from "./spread.ts";

Deno.test("the median of odd and even counts", () => {
  assertEquals(spreadOf([3, 1, 2]), { median: 2, min: 1, max: 3 });
  assertEquals(spreadOf([4, 1, 2, 3]), { median: 2.5, min: 1, max: 4 });
  assertEquals(spreadOf([7]), { median: 7, min: 7, max: 7 });
});
