import { asTorporError } from "@torpor/errors";
import { isId } from "@torpor/ids";
import type { SnapshotContents } from "@torpor/proto/torpor";
import { type Api, apiTarget, openApi } from "../client/api.ts";
import { contentsJson } from "../client/snapshot_view.ts";
import { required } from "../client/traced_call.ts";
import { contentsTree, isDamaged } from "../snapshot/contents_tree.ts";
import { paintFor } from "../terminal/paint.ts";
import { Progress } from "../terminal/progress.ts";
import { defineAction } from "./define.ts";
import { EXIT } from "./exit_codes.ts";
import { printJson } from "./print.ts";

/** The server's own deadline goes by the size; this one only ends a wait for a dead server. */
const VERIFY_TIMEOUT_MS = 86_400_000;

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
    verify: { type: "boolean", description: "Read all of its data and compare checksums; fails when any is damaged" },
  },
  async run({ args }) {
    using api = openApi(await apiTarget());
    const contents = required(
      args.verify
        ? await new Progress().step(`reading the data of ${args.snapshot}`, () => contentsOf(api, args.snapshot, true))
        : await contentsOf(api, args.snapshot, false),
      "contents",
    );
    if (args.json) printJson(contentsJson(contents));
    else console.log(contentsTree(args.snapshot, contents, paintFor(Deno.stdout)));
    const files = args.verify ? contents.verified : contents.knownDamage;
    const damaged = files.filter(isDamaged).length;
    if (damaged === 0) return EXIT.ok;
    const which = args.verify ? `${damaged} of ${files.length} data files` : `${damaged} data files`;
    console.error(`${which} cannot be read as they were written.`);
    return EXIT.failed;
  },
});

/** An id can be a snapshot's or a sandbox's; it is never both. */
async function contentsOf(api: Api, reference: string, verify: boolean): Promise<SnapshotContents | undefined> {
  const options = { timeoutMs: VERIFY_TIMEOUT_MS };
  try {
    return (await api.snapshots.inspectSnapshot({ snapshot: reference, verify }, options)).contents;
  } catch (thrown) {
    if (asTorporError(thrown).code !== "snapshot_not_found" || !isId(reference)) throw thrown;
  }
  return (await api.sandboxes.inspectSandbox({ sandboxId: reference, verify }, options)).contents;
}
