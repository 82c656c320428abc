import { defineCommand } from "citty";
import { hostAdd } from "./host_add.ts";
import { hostDrain } from "./host_drain.ts";
import { hostList } from "./host_list.ts";
import { hostCordon, hostUncordon } from "./host_placement.ts";
import { hostRemove } from "./host_remove.ts";

/** `torpor host …` */
export const host = defineCommand({
  meta: { name: "host", description: "Add, list, cordon, drain and remove hosts. Only for the administrator" },
  subCommands: {
    add: hostAdd,
    ls: hostList,
    cordon: hostCordon,
    uncordon: hostUncordon,
    drain: hostDrain,
    remove: hostRemove,
  },
});
