import { defineCommand } from "citty";
import { z } from "zod";
import { adminTarget, apiTarget, openApi } from "../client/api.ts";
import { jsonCall } from "../client/json_call.ts";
import { flattenFields } from "../terminal/flatten_fields.ts";
import { formatTable } from "../terminal/table.ts";
import { defineAction } from "./define.ts";
import { printJson } from "./print.ts";
import { LIMIT_OPTIONS, limitsOf, teamSchema } from "./team_limits.ts";

const TEAM = { type: "positional", required: true, description: "Id of the team" } as const;

const create = defineAction({
  name: "create",
  description: "Make a team; as the administrator of the deployment",
  args: { name: { type: "positional", required: true, description: "What it is called" }, ...LIMIT_OPTIONS },
  async run({ args }) {
    using api = openApi(await adminTarget());
    const json = { name: args.name, limits: limitsOf(args) };
    const team = await jsonCall(api, teamSchema, "/v1/teams", { method: "POST", json });
    if (args.json) return printJson(team);
    console.log(`${team.team_id}\nA key for it: ./torpor key create NAME --team ${team.team_id}`);
  },
});

const list = defineAction({
  name: "ls",
  description: "List all teams, with what they have; as the administrator of the deployment",
  async run({ args }) {
    using api = openApi(await adminTarget());
    const { teams } = await jsonCall(api, z.object({ teams: z.array(teamSchema) }), "/v1/teams");
    if (args.json) return printJson({ teams });
    const of = (use: number | undefined, limit: number | null | undefined) => `${use ?? 0}/${limit ?? "∞"}`;
    const rows = teams.map(({ team_id, name, use, limits }) => [
      name,
      team_id,
      of(use.running_sandboxes, limits.max_running_sandboxes),
      of(use.sandboxes, limits.max_sandboxes),
      of(use.vcpus, limits.max_vcpus),
      of(use.memory_mb, limits.max_memory_mb),
      of(use.disk_mb, limits.max_disk_mb),
      of(use.snapshots, limits.max_snapshots),
      of(use.stored_bytes, limits.max_stored_bytes),
    ]);
    const header = [
      "NAME",
      "ID",
      "RUNNING",
      "SANDBOXES",
      "VCPUS",
      "MEMORY MIB",
      "DISK MIB",
      "SNAPSHOTS",
      "STORED BYTES",
    ];
    console.log(formatTable([header, ...rows]));
  },
});

const get = defineAction({
  name: "get",
  description: "Show a team with its limits and what it has. Without an id: the key's own",
  args: { team: { ...TEAM, required: false } },
  async run({ args }) {
    using api = openApi(args.team ? await adminTarget() : await apiTarget());
    const team = args.team
      ? await jsonCall(api, teamSchema, `/v1/teams/${encodeURIComponent(args.team)}`)
      : (await jsonCall(api, z.object({ teams: z.array(teamSchema).min(1) }), "/v1/teams")).teams[0]!;
    if (args.json) return printJson(team);
    console.log(formatTable(flattenFields(team)));
  },
});

const update = defineAction({
  name: "update",
  description: "Change a team's name and limits; as the administrator of the deployment",
  args: { team: TEAM, name: { type: "string", description: "What it is called from now on" }, ...LIMIT_OPTIONS },
  async run({ args }) {
    using api = openApi(await adminTarget());
    const path = `/v1/teams/${encodeURIComponent(args.team)}`;
    const json = { name: args.name, limits: limitsOf(args) };
    const team = await jsonCall(api, teamSchema, path, { method: "PATCH", json });
    if (args.json) return printJson(team);
    console.log(formatTable(flattenFields(team)));
  },
});

const remove = defineAction({
  name: "rm",
  description: "Delete a team that has no sandboxes and snapshots any more; as the administrator of the deployment",
  args: { team: TEAM },
  async run({ args }) {
    using api = openApi(await adminTarget());
    await api.rest(`/v1/teams/${encodeURIComponent(args.team)}`, { method: "DELETE" });
    if (args.json) return printJson({ team_id: args.team, deleted: true });
    console.log("Gone; its keys open nothing any more.");
  },
});

/** `torpor team …` */
export const team = defineCommand({
  meta: { name: "team", description: "Make, list, show, limit and remove teams" },
  subCommands: { create, ls: list, get, update, rm: remove },
});
