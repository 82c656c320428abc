import { apiTarget, openApi } from "../client/api.ts";
import { sandboxJson } from "../client/sandbox_view.ts";
import { required } from "../client/traced_call.ts";
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
    console.log(formatTable(flatten(fields)));
  },
});

function flatten(fields: Record<string, unknown>, prefix = ""): string[][] {
  return Object.entries(fields).flatMap(([name, value]) => {
    if (value === null) return [];
    if (typeof value === "object") return flatten(value as Record<string, unknown>, `${prefix}${name}.`);
    return [[prefix + name, String(value)]];
  });
}
