import { nativeFiles, openLibrary } from "@torpor/ffi";
import { runService } from "@torpor/rpc";
import { readHostAgentConfig } from "./config.ts";
import { dropCapabilities } from "./confinement/mod.ts";
import { startHostAgent } from "./start.ts";

if (import.meta.main) {
  await runService(() => {
    const config = readHostAgentConfig();
    openLibrary(nativeFiles(config.nativeDirectory).library);
    dropCapabilities();
    return startHostAgent(config);
  });
}
