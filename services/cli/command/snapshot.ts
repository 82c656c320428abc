import { defineCommand } from "citty";
import { snapshotCollect } from "./snapshot_collect.ts";
import { snapshotCreate } from "./snapshot_create.ts";
import { snapshotGet } from "./snapshot_get.ts";
import { snapshotInspect } from "./snapshot_inspect.ts";
import { snapshotList } from "./snapshot_list.ts";
import { snapshotRemove } from "./snapshot_remove.ts";
import { snapshotUpdate } from "./snapshot_update.ts";

/** `torpor snapshot …` */
export const snapshot = defineCommand({
  meta: {
    name: "snapshot",
    description: "Take, list, show, look into, keep and remove snapshots to spawn sandboxes from",
  },
  subCommands: {
    create: snapshotCreate,
    ls: snapshotList,
    get: snapshotGet,
    inspect: snapshotInspect,
    update: snapshotUpdate,
    rm: snapshotRemove,
    gc: snapshotCollect,
  },
});
