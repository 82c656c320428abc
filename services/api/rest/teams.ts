import { createRoute, z } from "@hono/zod-openapi";
import type { Api } from "../handlers/api.ts";
import { createTeam, deleteTeam, getTeam, listTeams, updateTeam } from "../handlers/teams.ts";
import { parseInput } from "../inputs/parse.ts";
import { createTeamInput, teamId, updateTeamInput } from "../inputs/team.ts";
import { commonErrors, errorView, jsonAnswer, jsonBody } from "./answers.ts";
import type { RestApp } from "./environment.ts";
import { teamListView, teamView, viewTeam } from "./views/team.ts";

const tags = ["teams"];

const teamPath = z.object({ team_id: teamId.openapi({ param: { name: "team_id", in: "path" } }) });

const teamErrors = {
  ...commonErrors,
  403: jsonAnswer(errorView, "Only for administrators (`permission_denied`); nothing was touched."),
  404: jsonAnswer(errorView, "No such team (`team_not_found`), or another one than the caller's."),
  409: jsonAnswer(errorView, "The name is taken (`already_exists`), or the team still has something (`conflict`)."),
};

const createTeamRoute = createRoute({
  method: "post",
  path: "/v1/teams",
  tags,
  summary: "Make a team",
  request: { body: jsonBody(createTeamInput, true) },
  responses: { 201: jsonAnswer(teamView, "The team."), ...teamErrors },
});

const listRoute = createRoute({
  method: "get",
  path: "/v1/teams",
  tags,
  summary: "List teams: all for an administrator, else the caller's own",
  responses: { 200: jsonAnswer(teamListView, "Teams by name."), ...commonErrors },
});

const getRoute = createRoute({
  method: "get",
  path: "/v1/teams/{team_id}",
  tags,
  summary: "Show a team with its limits and what it has",
  request: { params: teamPath },
  responses: { 200: jsonAnswer(teamView, "The team."), ...teamErrors },
});

const updateRoute = createRoute({
  method: "patch",
  path: "/v1/teams/{team_id}",
  tags,
  summary: "Change a team's name and limits",
  description: "What it has beyond a new limit stays; only more is refused.",
  request: { params: teamPath, body: jsonBody(updateTeamInput, true) },
  responses: { 200: jsonAnswer(teamView, "As it is now."), ...teamErrors },
});

const deleteRoute = createRoute({
  method: "delete",
  path: "/v1/teams/{team_id}",
  tags,
  summary: "Delete a team that has nothing any more, and revoke its keys",
  request: { params: teamPath },
  responses: { 204: { description: "Gone." }, ...teamErrors },
});

/** Routes of teams. */
export function addTeamRoutes(app: RestApp, api: Api): void {
  app.openapi(createTeamRoute, async (c) => {
    const input = parseInput(createTeamInput, c.req.valid("json"));
    return c.json(viewTeam(await createTeam(api, c.get("caller"), input)), 201);
  });

  app.openapi(listRoute, async (c) => c.json({ teams: (await listTeams(api, c.get("caller"))).map(viewTeam) }, 200));

  app.openapi(getRoute, async (c) => {
    return c.json(viewTeam(await getTeam(api, c.get("caller"), c.req.valid("param").team_id)), 200);
  });

  app.openapi(updateRoute, async (c) => {
    const input = parseInput(updateTeamInput, c.req.valid("json"));
    return c.json(viewTeam(await updateTeam(api, c.get("caller"), c.req.valid("param").team_id, input)), 200);
  });

  app.openapi(deleteRoute, async (c) => {
    await deleteTeam(api, c.get("caller"), c.req.valid("param").team_id);
    return c.body(null, 204);
  });
}
