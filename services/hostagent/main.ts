import { runService } from "@torpor/rpc";
import { readHostAgentConfig } from "./config.ts";
import { startHostAgent } from "./start.ts";

if (import.meta.main) await runService(() => startHostAgent(readHostAgentConfig()));
