import { apiTarget, openApi } from "../client/api.ts";
import { sandboxJson } from "../client/sandbox_view.ts";
import { required, traced } from "../client/traced_call.ts";
import { formatMs, roundMs } from "../terminal/format.ts";
import { Progress } from "../terminal/progress.ts";
import { defineAction, integerOption } from "./define.ts";
import { UsageError } from "./exit_codes.ts";
import { NETWORK_OPTIONS, networkOption } from "./network_options.ts";
import { printJson } from "./print.ts";
import { RECLAIM_OPTION, reclaimOption } from "./reclaim_option.ts";

/** `torpor sandbox create` */
export const sandboxCreate = defineAction({
  name: "create",
  description: "Create a sandbox, wait until it runs, print its id",
  args: {
    snapshot: { type: "string", description: "Go on where this snapshot was taken instead of booting: name or id" },
    template: { type: "string", description: "Template (default: base)" },
    vcpus: { type: "string", description: "1 to 16 (default: 1)", valueHint: "number" },
    memory: { type: "string", description: "MiB, 128 to 65536 (default: 512)", valueHint: "mib" },
    disk: { type: "string", description: "MiB, 64 to 1048576 (default: 5120)", valueHint: "mib" },
    timeout: { type: "string", description: "Idle seconds until it is paused; 0: never", valueHint: "seconds" },
    "auto-delete-after": {
      type: "string",
      description: "Seconds in state paused until it is deleted; 0: never",
      valueHint: "seconds",
    },
    ttl: {
      type: "string",
      description: "Seconds it may exist, or run at a stretch (see --on-ttl), however busy; 0: no limit",
      valueHint: "seconds",
    },
    "on-ttl": { type: "string", description: "What happens then: pause (default) or delete", valueHint: "verb" },
    env: { type: "string", description: "NAME=VALUE for every process, several separated by commas" },
    metadata: { type: "string", description: "KEY=VALUE, several separated by commas" },
    reclaim: RECLAIM_OPTION,
    ...NETWORK_OPTIONS,
    "host-label": { type: "string", description: "KEY=VALUE of the host it is placed on, several separated by commas" },
    "host-capability": {
      type: "string",
      description: "What its host must have (accelerator:kvm), several separated by commas",
    },
  },
  async run({ args }) {
    const request = {
      snapshot: args.snapshot,
      template: args.template,
      vcpus: integerOption(args.vcpus, "--vcpus", 1, 16),
      memoryMb: integerOption(args.memory, "--memory", 128, 65_536),
      diskSizeMb: integerOption(args.disk, "--disk", 64, 1_048_576),
      timeoutSec: integerOption(args.timeout, "--timeout", 0, 604_800),
      autoDeleteAfterSec: integerOption(args["auto-delete-after"], "--auto-delete-after", 0, 315_360_000),
      ttlSec: integerOption(args.ttl, "--ttl", 0, 315_360_000),
      onTtl: args["on-ttl"],
      env: pairs(args.env, "--env"),
      metadata: pairs(args.metadata, "--metadata"),
      reclaim: reclaimOption(args.reclaim),
      network: networkOption(args),
      hostLabels: pairs(args["host-label"], "--host-label"),
      requiredCapabilities: (args["host-capability"] ?? "").split(",").filter((name) => name !== ""),
    };
    using api = openApi(await apiTarget());
    const { response, traceId, ms } = await new Progress().step(
      args.snapshot === undefined ? "creating a sandbox" : `spawning a sandbox from ${args.snapshot}`,
      () => traced((options) => api.sandboxes.createSandbox(request, options)),
    );
    const created = required(response.sandbox, "sandbox");
    if (args.json) return printJson({ ...sandboxJson(created), elapsed_ms: roundMs(ms), trace_id: traceId });
    console.log(created.sandboxId);
    console.error(`runs with ${created.accelerator} after ${formatMs(ms)}; trace ${traceId ?? "unknown"}`);
  },
});

function pairs(text: string | undefined, option: string): Record<string, string> {
  const entries = (text ?? "").split(",").filter((pair) => pair !== "").map((pair): [string, string] => {
    const equals = pair.indexOf("=");
    if (equals < 1) throw new UsageError(`${option} takes NAME=VALUE, not ${pair}`);
    return [pair.slice(0, equals), pair.slice(equals + 1)];
  });
  return Object.fromEntries(entries);
}
