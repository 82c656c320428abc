// A host agent for tests that kill it: as services/hostagent/main.ts, but at a given step it can kill itself, or wait until
// the test has done something.
import { nativeFiles, openLibrary } from "@torpor/ffi";
import { runService } from "@torpor/rpc";
import { readHostAgentConfig } from "../../services/hostagent/config.ts";
import { dropCapabilities } from "../../services/hostagent/confinement/mod.ts";
import { startHostAgent } from "../../services/hostagent/start.ts";

const crashAt = Deno.env.get("TORPOR_TEST_CRASH_AT");
const waitAt = Deno.env.get("TORPOR_TEST_WAIT_AT");
/** Two FIFOs: opening one waits for its other end. */
const gate = Deno.env.get("TORPOR_TEST_GATE");
await runService(() => {
  const config = readHostAgentConfig();
  openLibrary(nativeFiles(config.nativeDirectory).library);
  dropCapabilities();
  return startHostAgent(config, {
    async onStep(step) {
      if (step === crashAt) Deno.kill(Deno.pid, "SIGKILL");
      if (step !== waitAt) return;
      await Deno.writeTextFile(`${gate}/reached`, step);
      await Deno.readTextFile(`${gate}/go`);
    },
  });
});
