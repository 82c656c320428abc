import type { HostCollection } from "@torpor/proto/torpor";
import { adminTarget, openApi } from "../client/api.ts";
import { formatBytes } from "../terminal/format.ts";
import { Progress } from "../terminal/progress.ts";
import { formatTable } from "../terminal/table.ts";
import { defineAction } from "./define.ts";
import { EXIT } from "./exit_codes.ts";
import { printJson } from "./print.ts";

/** `torpor snapshot gc` */
export const snapshotCollect = defineAction({
  name: "gc",
  description:
    "Remove snapshot data that nothing refers to, on all hosts. Only for the administrator of the deployment",
  args: { "dry-run": { type: "boolean", description: "Tell what would go, and change nothing" } },
  async run({ args }) {
    const dryRun = Boolean(args["dry-run"]);
    using api = openApi(await adminTarget());
    const { hosts } = await new Progress().step(
      dryRun ? "looking for data that nothing refers to" : "removing data that nothing refers to",
      () => api.snapshots.collectSnapshots({ dryRun }),
    );
    if (args.json) printJson(collectionJson(dryRun, hosts));
    else show(dryRun, hosts);
    return hosts.some(({ errorCode }) => errorCode !== "") ? EXIT.unreachable : EXIT.ok;
  },
});

function show(dryRun: boolean, hosts: HostCollection[]): void {
  const rows = hosts.flatMap(({ hostId, errorCode, collected }) =>
    errorCode === ""
      ? collected.map(({ snapshotId, action, bytes }) => [hostId, snapshotId, action, formatBytes(Number(bytes))])
      : [[hostId, "", errorCode, ""]]
  );
  if (rows.length > 0) console.log(formatTable([["HOST", "DATA", "WHAT", "BYTES"], ...rows]));
  console.log(`${formatBytes(sumOf(hosts))} ${dryRun ? "would be given back" : "given back"}.`);
}

function sumOf(hosts: HostCollection[]): number {
  return hosts.reduce((sum, { bytes }) => sum + Number(bytes), 0);
}

function collectionJson(dryRun: boolean, hosts: HostCollection[]): Record<string, unknown> {
  return {
    dry_run: dryRun,
    bytes: sumOf(hosts),
    hosts: hosts.map(({ hostId, errorCode, bytes, collected }) => ({
      host_id: hostId,
      error_code: errorCode || null,
      bytes,
      collected: collected.map((one) => ({ snapshot_id: one.snapshotId, action: one.action, bytes: one.bytes })),
    })),
  };
}
