// A host agent for tests that kill it: as services/hostagent/main.ts, but it can kill itself at a given step.
import { runService } from "@torpor/rpc";
import { readHostAgentConfig } from "../../services/hostagent/config.ts";
import { startHostAgent } from "../../services/hostagent/start.ts";

const crashAt = Deno.env.get("TORPOR_TEST_CRASH_AT");
await runService(() =>
  startHostAgent(readHostAgentConfig(), {
    onStep(step) {
      if (step === crashAt) Deno.kill(Deno.pid, "SIGKILL");
    },
  })
);
