import { apiTarget, openApi } from "../client/api.ts";
import { sandboxJson } from "../client/sandbox_view.ts";
import { required } from "../client/traced_call.ts";
import { defineAction } from "./define.ts";
import { NETWORK_OPTIONS, networkOption } from "./network_options.ts";
import { printJson } from "./print.ts";

/** `torpor sandbox network` */
export const sandboxNetwork = defineAction({
  name: "network",
  description: "Replace what a sandbox may reach; without options it may reach the whole internet",
  args: { id: { type: "positional", required: true, description: "Id of the sandbox" }, ...NETWORK_OPTIONS },
  async run({ args }) {
    const network = networkOption(args) ?? {};
    using api = openApi(await apiTarget());
    const { sandbox, confirmed } = await api.sandboxes.updateNetwork({ sandboxId: args.id, network });
    const fields = { ...sandboxJson(required(sandbox, "sandbox")), confirmed };
    if (args.json) return printJson(fields);
    console.log(confirmed ? "In effect." : "Recorded; its host has not confirmed yet, and is told until it does.");
  },
});
