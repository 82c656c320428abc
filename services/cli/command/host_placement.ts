import { adminTarget, openApi } from "../client/api.ts";
import { hostSchema } from "../client/host_view.ts";
import { defineAction } from "./define.ts";
import { printJson } from "./print.ts";

const HOST = { type: "positional", description: "Id or name of the host", required: true } as const;

/** `torpor host cordon` */
export const hostCordon = placement("cordon", "Place nothing new on a host; what is there goes on");

/** `torpor host uncordon` */
export const hostUncordon = placement("uncordon", "Let a host take sandboxes again; ends a drain");

function placement(verb: "cordon" | "uncordon", description: string) {
  return defineAction({
    name: verb,
    description,
    args: { host: HOST },
    async run({ args }) {
      using api = openApi(await adminTarget());
      const response = await api.rest(`/v1/hosts/${encodeURIComponent(args.host)}/${verb}`, { method: "POST" });
      const host = hostSchema.parse(await response.json());
      if (args.json) return printJson(host);
      console.log(`${host.name} is ${host.state}.`);
    },
  });
}
