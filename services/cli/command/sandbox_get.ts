import { apiTarget, openApi } from "../client/api.ts";
import { sandboxJson } from "../client/sandbox_view.ts";
import { required } from "../client/traced_call.ts";
import { flattenFields } from "../terminal/flatten_fields.ts";
import { formatTable } from "../terminal/table.ts";
import { defineAction } from "./define.ts";
import { printJson } from "./print.ts";

/** `torpor sandbox get` */
export const sandboxGet = defineAction({
  name: "get",
  description: "Show a sandbox",
  args: { id: { type: "positional", required: true, description: "Id of the sandbox" } },
  async run({ args }) {
    using api = openApi(await apiTarget());
    const { sandbox } = await api.sandboxes.getSandbox({ sandboxId: args.id });
    const fields = sandboxJson(required(sandbox, "sandbox"));
    if (args.json) return printJson(fields);
    console.log(formatTable(flattenFields(fields)));
  },
});
