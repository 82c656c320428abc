import { z } from "zod";
import { apiTarget, openApi } from "../client/api.ts";
import { hostSchema, type HostView } from "../client/host_view.ts";
import { type Paint, paintFor } from "../terminal/paint.ts";
import { formatTable } from "../terminal/table.ts";
import { defineAction } from "./define.ts";
import { printJson } from "./print.ts";

/** `torpor host ls` */
export const hostList = defineAction({
  name: "ls",
  description: "List hosts with their state and what is reserved",
  async run({ args }) {
    using api = openApi(await apiTarget());
    const { hosts } = z.object({ hosts: z.array(hostSchema) }).parse(await (await api.rest("/v1/hosts")).json());
    if (args.json) return printJson({ hosts });
    if (hosts.length === 0) return console.log("No host has registered.");
    const paint = paintFor(Deno.stdout);
    const header = ["ID", "NAME", "STATE", "VCPUS", "MEMORY", "RUNNING", "PAUSED", "LABELS"];
    console.log(formatTable([header, ...hosts.map((host) => row(host, paint))]));
  },
});

function row(host: HostView, paint: Paint): string[] {
  return [
    host.host_id,
    host.name,
    paint(host.state === "ready" ? "green" : host.state === "unreachable" ? "red" : "yellow", host.state),
    `${host.reserved_vcpus}/${host.vcpus}`,
    `${host.reserved_memory_mb}/${host.memory_mb} MiB`,
    String(host.running_sandboxes),
    String(host.paused_sandboxes),
    Object.entries(host.labels).map(([name, value]) => `${name}=${value}`).join(","),
  ];
}
