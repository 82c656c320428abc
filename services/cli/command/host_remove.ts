import { z } from "zod";
import { adminTarget, openApi } from "../client/api.ts";
import { defineAction } from "./define.ts";
import { printJson } from "./print.ts";

const removedSchema = z.object({ host_id: z.string(), sandboxes: z.number(), snapshots: z.number() });

/** `torpor host remove` */
export const hostRemove = defineAction({
  name: "remove",
  description: "Take a host out; refused while it holds sandboxes or snapshots",
  args: {
    host: { type: "positional", description: "Id or name of the host", required: true },
    force: { type: "boolean", description: "What it holds is lost, until the host is added again with its data" },
  },
  async run({ args }) {
    using api = openApi(await adminTarget());
    const query = args.force ? "?force=true" : "";
    const response = await api.rest(`/v1/hosts/${encodeURIComponent(args.host)}${query}`, { method: "DELETE" });
    const removed = removedSchema.parse(await response.json());
    if (args.json) return printJson(removed);
    console.log(
      `Removed ${removed.host_id}; lost with it: ${removed.sandboxes} sandboxes, ${removed.snapshots} snapshots.`,
    );
  },
});
