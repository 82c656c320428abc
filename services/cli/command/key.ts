import { defineCommand } from "citty";
import { parseDurationSec } from "@torpor/config";
import { z } from "zod";
import { adminTarget, apiTarget, openApi } from "../client/api.ts";
import { jsonCall, queryOf } from "../client/json_call.ts";
import { formatAge } from "../terminal/format.ts";
import { formatTable } from "../terminal/table.ts";
import { defineAction } from "./define.ts";
import { UsageError } from "./exit_codes.ts";
import { printJson } from "./print.ts";

const keySchema = z.object({
  key_id: z.string(),
  team_id: z.string(),
  name: z.string(),
  prefix: z.string(),
  scopes: z.array(z.string()),
  created_at: z.string(),
  last_used_at: z.string().nullable(),
  expires_at: z.string().nullable(),
  revoked_at: z.string().nullable(),
});

const TEAM = {
  type: "string",
  description: "Another team's, by its id; as the administrator of the deployment",
} as const;

async function targetFor(team: string | undefined) {
  return team === undefined ? await apiTarget() : await adminTarget();
}

const create = defineAction({
  name: "create",
  description: "Make an API key and print it; it cannot be shown again",
  args: {
    name: { type: "positional", required: true, description: "What it is for" },
    scopes: { type: "string", description: "What it may do, separated by commas. Default: as the key that makes it" },
    "expires-in": {
      type: "string",
      description: "After which time it ends, such as 12h or 30d",
      valueHint: "duration",
    },
    team: TEAM,
  },
  async run({ args }) {
    const expires = args["expires-in"];
    const expires_in_sec = expires === undefined ? undefined : parseDurationSec(expires);
    if (expires !== undefined && expires_in_sec === undefined) {
      throw new UsageError(`--expires-in must be a number with s, m, h, d or w, not ${expires}`);
    }
    const json = { name: args.name, scopes: args.scopes?.split(","), expires_in_sec, team_id: args.team };
    using api = openApi(await targetFor(args.team));
    const made = await jsonCall(api, keySchema.extend({ key: z.string() }), "/v1/api-keys", { method: "POST", json });
    if (args.json) return printJson(made);
    console.error(`Key ${made.key_id} (${made.scopes.join(", ")}). It cannot be shown again:`);
    console.log(made.key);
  },
});

const list = defineAction({
  name: "ls",
  description: "List API keys, newest first",
  args: { team: TEAM },
  async run({ args }) {
    using api = openApi(await targetFor(args.team));
    const path = `/v1/api-keys${queryOf({ team_id: args.team })}`;
    const { api_keys } = await jsonCall(api, z.object({ api_keys: z.array(keySchema) }), path);
    if (args.json) return printJson({ api_keys });
    const rows = api_keys.map((key) => [
      key.key_id,
      `${key.prefix}…`,
      key.name,
      key.scopes.join(" "),
      stateOf(key),
      key.last_used_at ? `${formatAge(new Date(key.last_used_at))} ago` : "never",
    ]);
    console.log(formatTable([["ID", "KEY", "NAME", "SCOPES", "STATE", "LAST USED"], ...rows]));
  },
});

function stateOf({ revoked_at, expires_at }: z.output<typeof keySchema>): string {
  if (revoked_at) return "revoked";
  if (expires_at === null) return "valid";
  const end = new Date(expires_at);
  return end.getTime() <= Date.now() ? "expired" : `ends in ${formatAge(new Date(), end)}`;
}

const revoke = defineAction({
  name: "revoke",
  description: "End an API key, at once",
  args: { key: { type: "positional", required: true, description: "Its id, from key ls" }, team: TEAM },
  async run({ args }) {
    using api = openApi(await targetFor(args.team));
    const path = `/v1/api-keys/${encodeURIComponent(args.key)}${queryOf({ team_id: args.team })}`;
    await api.rest(path, { method: "DELETE" });
    if (args.json) return printJson({ key_id: args.key, revoked: true });
    console.log("It opens nothing any more.");
  },
});

/** `torpor key …` */
export const key = defineCommand({
  meta: { name: "key", description: "Make, list and revoke API keys" },
  subCommands: { create, ls: list, revoke },
});
