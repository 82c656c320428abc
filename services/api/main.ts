import { readConfig } from "@torpor/config";
import { runService } from "@torpor/rpc";
import { apiConfigShape } from "./config.ts";
import { startApi } from "./start.ts";

if (import.meta.main) await runService(() => startApi(readConfig(apiConfigShape)));
