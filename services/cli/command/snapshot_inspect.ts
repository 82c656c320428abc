import { asTorporError } from "@torpor/errors";
import { isId } from "@torpor/ids";
import type { SnapshotContents } from "@torpor/proto/torpor";
import { type Api, apiTarget, openApi } from "../client/api.ts";
import { contentsJson } from "../client/snapshot_view.ts";
import { required } from "../client/traced_call.ts";
import { contentsTree } from "../snapshot/contents_tree.ts";
import { paintFor } from "../terminal/paint.ts";
import { defineAction } from "./define.ts";
import { printJson } from "./print.ts";

/** `torpor snapshot inspect` */
export const snapshotInspect = defineAction({
  name: "inspect",
  description: "Show what a snapshot consists of: generations, extents, bytes by source",
  args: {
    snapshot: {
      type: "positional",
      required: true,
      description: "Name or id of a snapshot, or id of a sandbox: its newest generation",
    },
  },
  async run({ args }) {
    using api = openApi(await apiTarget());
    const contents = required(await contentsOf(api, args.snapshot), "contents");
    if (args.json) return printJson(contentsJson(contents));
    console.log(contentsTree(args.snapshot, contents, paintFor(Deno.stdout)));
  },
});

/** An id can be a snapshot's or a sandbox's; it is never both. */
async function contentsOf(api: Api, reference: string): Promise<SnapshotContents | undefined> {
  try {
    return (await api.snapshots.inspectSnapshot({ snapshot: reference })).contents;
  } catch (thrown) {
    if (asTorporError(thrown).code !== "snapshot_not_found" || !isId(reference)) throw thrown;
  }
  return (await api.sandboxes.inspectSandbox({ sandboxId: reference })).contents;
}
