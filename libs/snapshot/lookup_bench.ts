/** What a lookup in a table of a million extents takes: `deno bench libs/snapshot/lookup_bench.ts`. */
import { ExtentTableBuilder, findExtent, PAGE_BYTES } from "./extent_table.ts";

const EXTENTS = 1_000_000;

const builder = new ExtentTableBuilder("memory", 1);
// No extent continues the one before, so that none is merged.
for (let index = 0; index < EXTENTS; index++) {
  builder.addData(PAGE_BYTES, "a".repeat(20), (EXTENTS - index) * PAGE_BYTES);
}
const table = builder.build();
let state = 1;

Deno.bench("header_lookup_ns_1e6", () => {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  findExtent(table, (state % EXTENTS) * PAGE_BYTES);
});
