import { defineCommand } from "citty";
import { webhookCreate } from "./webhook_create.ts";
import { webhookDeliveries } from "./webhook_deliveries.ts";
import { webhookList } from "./webhook_list.ts";
import { webhookRemove } from "./webhook_remove.ts";
import { webhookRetry } from "./webhook_retry.ts";
import { webhookRotate } from "./webhook_rotate.ts";
import { webhookTest } from "./webhook_test_event.ts";
import { webhookUpdate } from "./webhook_update.ts";

/** `torpor webhook …` */
export const webhook = defineCommand({
  meta: { name: "webhook", description: "Have receivers told of what happens to sandboxes and snapshots" },
  subCommands: {
    create: webhookCreate,
    ls: webhookList,
    update: webhookUpdate,
    rotate: webhookRotate,
    test: webhookTest,
    deliveries: webhookDeliveries,
    retry: webhookRetry,
    rm: webhookRemove,
  },
});
