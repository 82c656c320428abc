import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { Snapshot } from "@torpor/proto/torpor";
import { apiTarget, openApi } from "../client/api.ts";
import { listSnapshots } from "../client/list_snapshots.ts";
import { snapshotJson } from "../client/snapshot_view.ts";
import { formatAge, formatBytes } from "../terminal/format.ts";
import { type Paint, paintFor, type Style } from "../terminal/paint.ts";
import { formatTable } from "../terminal/table.ts";
import { defineAction } from "./define.ts";
import { printJson } from "./print.ts";

/** `torpor snapshot ls` */
export const snapshotList = defineAction({
  name: "ls",
  description: "List the snapshots that sandboxes can be spawned from, newest first",
  async run({ args }) {
    using api = openApi(await apiTarget());
    const snapshots = await Array.fromAsync(listSnapshots(api));
    if (args.json) return printJson({ snapshots: snapshots.map(snapshotJson) });
    if (snapshots.length === 0) return console.log("No snapshots. Take one: ./torpor snapshot create SANDBOX NAME");
    const paint = paintFor(Deno.stdout);
    const header = ["NAME", "ID", "STATE", "TEMPLATE", "VCPUS", "MEMORY", "SIZE", "AGE", "EXPIRES", ""];
    console.log(formatTable([header, ...snapshots.map((snapshot) => row(snapshot, paint))]));
  },
});

function row(snapshot: Snapshot, paint: Paint): string[] {
  return [
    snapshot.name,
    snapshot.snapshotId,
    paint(stateStyle(snapshot.state), snapshot.state) + (snapshot.reason && ` (${snapshot.reason})`),
    snapshot.template,
    String(snapshot.vcpus),
    `${snapshot.memoryMb} MiB`,
    snapshot.sizes ? formatBytes(Number(snapshot.sizes.sizeBytes)) : "",
    snapshot.createdAt ? formatAge(timestampDate(snapshot.createdAt)) : "",
    snapshot.expiresAt ? `in ${formatAge(new Date(), timestampDate(snapshot.expiresAt))}` : "never",
    snapshot.platform ? "platform" : "",
  ];
}

function stateStyle(state: string): Style {
  if (state === "ready") return "green";
  return state === "failed" ? "red" : "yellow";
}
