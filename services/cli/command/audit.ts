import { z } from "zod";
import { adminTarget, apiTarget, openApi } from "../client/api.ts";
import { jsonCall, queryOf } from "../client/json_call.ts";
import { formatTable } from "../terminal/table.ts";
import { defineAction, integerOption } from "./define.ts";
import { printJson } from "./print.ts";

const pageSchema = z.object({
  entries: z.array(z.object({
    request_id: z.string(),
    team_id: z.string(),
    key_id: z.string(),
    action: z.string(),
    target: z.string().nullable(),
    code: z.string(),
    trace_id: z.string().nullable(),
    address: z.string().nullable(),
    created_at: z.string(),
  })),
  next_cursor: z.string().nullable(),
});

/** `torpor audit` */
export const audit = defineAction({
  name: "audit",
  description: "Show who changed what, newest first",
  args: {
    target: { type: "string", description: "Only what was done to this: an id or a name" },
    limit: { type: "string", description: "At most so many entries, up to 1000. Default 50" },
    cursor: { type: "string", description: "next_cursor of the page before" },
    all: { type: "boolean", description: "Of all teams; as the administrator of the deployment" },
  },
  async run({ args }) {
    const limit = integerOption(args.limit, "--limit", 1, 1000) ?? 50;
    using api = openApi(args.all ? await adminTarget() : await apiTarget());
    const query = queryOf({ target: args.target, limit: String(limit), cursor: args.cursor });
    const page = await jsonCall(api, pageSchema, `/v1/audit${query}`);
    if (args.json) return printJson(page);
    const rows = page.entries.map((entry) => [
      entry.created_at,
      entry.action,
      entry.target ?? "",
      entry.code,
      entry.key_id,
      ...args.all ? [entry.team_id] : [],
      entry.address ?? "",
    ]);
    const header = ["TIME", "ACTION", "TARGET", "RESULT", "KEY", ...args.all ? ["TEAM"] : [], "FROM"];
    console.log(formatTable([header, ...rows]));
    if (page.next_cursor) console.error(`More: --cursor ${page.next_cursor}`);
  },
});
