// What a host agent does for the network of one slot, inside of the agent's namespace of a test: each line of stdin is a policy,
// which is applied; "done" or an error is the answer. It ends with stdin, and the proxy's process with it.
import { nativeFiles, openLibrary } from "@torpor/ffi";
import { type EgressProxy, startEgressProxy } from "../../../../services/hostagent/network/egress/mod.ts";
import { applyPolicy, applyRuleset, hostRuleset } from "../../../../services/hostagent/network/policy/mod.ts";
import type { NetworkConfig, NetworkPolicy, Slot } from "../../../../services/hostagent/network/types.ts";
import { TextLineStream } from "../../../../services/cli/tool/text_lines.ts";

/** What it is started with. */
export interface AgentSetup {
  config: NetworkConfig;
  slot: Slot;
  directory: string;
  library: string;
}

async function apply(egress: EgressProxy, { config, slot }: AgentSetup, policy: NetworkPolicy): Promise<string> {
  try {
    await applyPolicy({ config, slot, egress }, policy);
    return "done";
  } catch (error) {
    return String(error);
  }
}

if (import.meta.main) {
  const setup: AgentSetup = JSON.parse(Deno.args[0]!);
  openLibrary(setup.library ?? nativeFiles().library);
  await applyRuleset(hostRuleset(setup.config));
  const egress = await startEgressProxy(setup.config, setup.directory);
  const lines = Deno.stdin.readable.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream());
  for await (const line of lines) console.log(await apply(egress, setup, JSON.parse(line)));
  await egress.close({ keep: false });
}
