import { z } from "zod";
import { adminTarget, openApi } from "../client/api.ts";
import { defineAction, integerOption } from "./define.ts";
import { printJson } from "./print.ts";

const tokenSchema = z.object({ token: z.string(), expires_at: z.string() });

/** `torpor host add` */
export const hostAdd = defineAction({
  name: "add",
  description: "Make a token by which one host joins, once",
  args: {
    name: { type: "positional", description: "What the host will be called", required: true },
    "expires-in": { type: "string", description: "Seconds that the token works (default: 3600)", valueHint: "number" },
  },
  async run({ args }) {
    const expires_in_sec = integerOption(args["expires-in"], "--expires-in", 60, 604_800);
    using api = openApi(await adminTarget());
    const response = await api.rest("/v1/host-tokens", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ name: args.name, expires_in_sec }),
    });
    const { token, expires_at } = tokenSchema.parse(await response.json());
    if (args.json) return printJson({ name: args.name, token, expires_at });
    // The token alone on stdout, so that scripts can take it.
    console.log(token);
    console.error(`
It works once, until ${expires_at}. On the host:

  TORPOR_HOST_TOKEN=…the token…
  TORPOR_SCHEDULER_URL=https://SCHEDULER:PORT#scheduler
  TORPOR_LISTEN=https://0.0.0.0:7073
  TORPOR_HOST_ADDRESS=https://THIS-HOST:7073
  deno task hostagent

docs/deployment.md tells more.`);
  },
});
