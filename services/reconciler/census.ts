import { countWebhooks, type Database, hostState, listHosts, takeCensus } from "@torpor/db";
import { type Observe, observed } from "@torpor/telemetry";

const SERVICES: readonly string[] = ["api", "scheduler", "reconciler", "hostagent"];
const OTHER = "other";

const METRICS = [
  "torpor.sandboxes",
  "torpor.operations.open",
  "torpor.hosts",
  "torpor.webhook.endpoints",
  "torpor.webhook.pending",
  "torpor.db.connections",
] as const;

/** Tells how many there are of sandboxes, operations, hosts, webhooks … while `leads`: one replica is enough. */
export function observeCensus(database: Database, leads: () => boolean): AsyncDisposable {
  return observed([...METRICS], async (observe) => {
    if (leads()) await observeAll(database, observe);
  });
}

async function observeAll(database: Database, observe: Observe): Promise<void> {
  const { sql } = database;
  const [census, hosts, webhooks] = await Promise.all([takeCensus(sql), listHosts(sql), countWebhooks(sql)]);
  for (const [state, count] of census.sandboxes) observe("torpor.sandboxes", count, { "torpor.state": state });
  for (const [kind, count] of census.operations) {
    observe("torpor.operations.open", count, { "torpor.operation": kind });
  }
  for (const [state, { length }] of Map.groupBy(hosts, hostState)) {
    observe("torpor.hosts", length, { "torpor.state": state });
  }
  const { failing, disabled, pending } = webhooks;
  const working = webhooks.webhooks - failing - disabled;
  for (const [state, count] of Object.entries({ working, failing, disabled })) {
    observe("torpor.webhook.endpoints", count, { "torpor.state": state });
  }
  observe("torpor.webhook.pending", pending, {});
  for (const service of [...SERVICES, OTHER]) {
    const own = census.connections.filter(({ applicationName }) => serviceOf(applicationName) === service);
    for (const [state, group] of Map.groupBy(own, ({ state }) => state)) {
      const sum = group.reduce((total, { count }) => total + count, 0);
      observe("torpor.db.connections", sum, { "torpor.service": service, "torpor.state": state });
    }
  }
}

/** Whoever connects chooses the name: what is none of ours must not become a series of its own. */
function serviceOf(applicationName: string): string {
  return SERVICES.includes(applicationName) ? applicationName : OTHER;
}
