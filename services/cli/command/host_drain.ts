import { adminTarget, type Api, openApi } from "../client/api.ts";
import { hostDetailSchema } from "../client/host_view.ts";
import { Progress, type Report } from "../terminal/progress.ts";
import { defineAction } from "./define.ts";
import { printJson } from "./print.ts";

const POLL_MS = 500;

/** `torpor host drain` */
export const hostDrain = defineAction({
  name: "drain",
  description: "Place nothing new on a host, pause what runs there, and wait until all is paused",
  args: {
    host: { type: "positional", description: "Id or name of the host", required: true },
    wait: { type: "boolean", description: "Wait (default); --no-wait only begins it", default: true },
  },
  async run({ args }) {
    const path = `/v1/hosts/${encodeURIComponent(args.host)}`;
    using api = openApi(await adminTarget());
    await (await api.rest(`${path}/drain`, { method: "POST" })).body?.cancel();
    const host = args.wait
      ? await new Progress().step(`draining ${args.host}`, (report) => untilDrained(api, path, report))
      : await describe(api, path);
    if (args.json) return printJson(host);
    console.log(`${host.name} is ${host.state}: ${host.active_sandboxes} sandboxes run, ${host.sandboxes} are there.`);
    if (host.sandboxes > 0) {
      console.log(`Paused ones stay with their snapshots: resume them after uncordon, or delete them.`);
    }
  },
});

async function untilDrained(api: Api, path: string, report: Report) {
  for (;;) {
    const host = await describe(api, path);
    if (host.active_sandboxes === 0) return host;
    report(`${host.active_sandboxes} still run`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

async function describe(api: Api, path: string) {
  return hostDetailSchema.parse(await (await api.rest(path)).json());
}
