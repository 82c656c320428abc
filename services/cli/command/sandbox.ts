import { defineCommand } from "citty";
import { sandboxCreate } from "./sandbox_create.ts";
import { sandboxGet } from "./sandbox_get.ts";
import { sandboxList } from "./sandbox_list.ts";
import { sandboxNetwork } from "./sandbox_network.ts";
import { sandboxRemove } from "./sandbox_remove.ts";

/** `torpor sandbox …` */
export const sandbox = defineCommand({
  meta: { name: "sandbox", description: "Create, list, show, change and remove sandboxes" },
  subCommands: { create: sandboxCreate, ls: sandboxList, get: sandboxGet, network: sandboxNetwork, rm: sandboxRemove },
});
