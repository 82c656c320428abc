import { caseName, SHORT_CASES } from "./matrix/cases.ts";
import { runMatrix } from "./matrix/run_matrix.ts";
import { assert, assertEquals } from "@std/assert";

Deno.test("a process that dies at any step costs nothing: few cases of ./torpor test crash", async () => {
  const results = await runMatrix(SHORT_CASES, () => {});
  const names = results.map(({ name }) => name);
  assertEquals(names.slice(0, -1), SHORT_CASES.map(caseName));
  assertEquals(results.flatMap(({ name, violations }) => violations.map((text) => `${name}: ${text}`)), []);
  for (const { name, periods } of results) assert(periods <= 2, `${name} took ${periods} periods`);
});
