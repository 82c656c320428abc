import { z } from "zod";
import { TorporError } from "@torpor/errors";
import { type Api, apiTarget, openApi } from "../client/api.ts";
import { deliverySchema, type DeliveryView, webhookPath } from "../client/webhook_view.ts";
import { formatMs } from "../terminal/format.ts";
import { Progress } from "../terminal/progress.ts";
import { defineAction } from "./define.ts";
import { EXIT } from "./exit_codes.ts";
import { printJson } from "./print.ts";

const POLL_MS = 200;

/** An attempt takes 10 s at most, and begins within a second. */
const WAIT_MS = 20_000;

/** `torpor webhook test` */
export const webhookTest = defineAction({
  name: "test",
  description: "Send a webhook an event of type webhook.test, and tell what it answers",
  args: { id: { type: "positional", description: "Id of the webhook", required: true } },
  async run({ args }) {
    using api = openApi(await apiTarget());
    const path = webhookPath(args.id);
    const begun = deliverySchema.parse(await (await api.rest(`${path}/test`, { method: "POST" })).json());
    const seen = await new Progress().step("sending webhook.test", () => untilAttempted(api, path, begun.event_id));
    if (args.json) printJson(seen);
    else console.log(describe(seen));
    return seen.state === "delivered" ? EXIT.ok : EXIT.failed;
  },
});

/** The delivery after its first attempt. @throws TorporError `deadline_exceeded` when none is made: no reconciler runs. */
async function untilAttempted(api: Api, path: string, eventId: string): Promise<DeliveryView> {
  const until = performance.now() + WAIT_MS;
  while (performance.now() < until) {
    const answer = await (await api.rest(`${path}/deliveries?event_id=${eventId}`)).json();
    const [delivery] = z.object({ deliveries: z.array(deliverySchema) }).parse(answer).deliveries;
    if (delivery && (delivery.state !== "pending" || delivery.error !== "")) return delivery;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  throw new TorporError("deadline_exceeded", `event ${eventId} was not sent within ${WAIT_MS / 1000} s`, {
    hint: "look whether a reconciler runs: ./torpor status",
  });
}

function describe(
  { state, response_status: status, took_ms: tookMs, error, response_body: body }: DeliveryView,
): string {
  const took = tookMs === null ? "" : ` in ${formatMs(tookMs)}`;
  if (state === "delivered") return `delivered${took}: ${status}`;
  const answer = status === null ? "" : ` (${status})`;
  return `not delivered${took}: ${error}${answer}${body === "" ? "" : `\n${body}`}`;
}
