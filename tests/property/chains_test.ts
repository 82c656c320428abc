/**
 * Random chains of what guests and hosts do to memory and disk, against a byte-exact model: the host agent, the pager, the shim and
 * userfaultfd are real, only the CPU is missing. `TORPOR_PROPERTY_CHAINS` sets their number, `TORPOR_PROPERTY_SEED` repeats one, or so many from there on.
 */
import { assertEquals } from "@std/assert";
import { compile } from "./harness/build.ts";
import { runChains } from "./harness/run_chains.ts";

const DEFAULT_CHAINS = 300;

/** Many chains on a machine that does other things, too. */
const TIMEOUT_MS = 20 * 60_000;

Deno.test(
  "random chains of guest and host operations leave every byte as the model says",
  { timeout: TIMEOUT_MS },
  async () => {
    const seed = Deno.env.get("TORPOR_PROPERTY_SEED");
    const count = Number(Deno.env.get("TORPOR_PROPERTY_CHAINS") ?? (seed ? 1 : DEFAULT_CHAINS));
    const first = seed ? Number(seed) : crypto.getRandomValues(new Uint32Array(1))[0]! >>> 1;
    const directory = await Deno.makeTempDir();
    try {
      const program = await compile("user_vmm.c", directory);
      const { checked, wrong } = await runChains({ program, first, count, steps: seed !== undefined && count === 1 });
      console.log(`chains_checked ${checked}\nchains_wrong ${wrong.length}`);
      assertEquals(wrong.join("\n\n"), "");
      assertEquals(checked, count);
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  },
);
