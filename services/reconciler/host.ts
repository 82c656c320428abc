import { type HostRow, listChangedSandboxIds, recordStoredBytes, setHostUnreachable } from "@torpor/db";
import type { HostClient } from "@torpor/lifecycle";
import type { ListSandboxesResponse } from "@torpor/proto/hostagent";
import { log } from "@torpor/telemetry";
import { acknowledge, refreshActivity } from "./activity.ts";
import type { HostView } from "./host_views.ts";
import { ask, compareWith, type Comparison, forEachPage } from "./inventory.ts";
import { judge } from "./judge.ts";
import { loseHost } from "./lost_host.ts";
import { measuredBytes } from "./measured_bytes.ts";
import type { PassContext } from "./pass.ts";
import { repairSandbox } from "./repair_sandbox.ts";
import type { Repair } from "./repairs.ts";
import { reconcileSnapshots } from "./snapshots.ts";

/** A row shows the time of its statement and appears with its commit, which is not later than this, ms. */
const COMMIT_MARGIN_MS = 5_000;

/** What was done about one host. */
export interface HostResult {
  repairs: Repair[];
  /** false: it did not answer. */
  reached: boolean;
}

/**
 * Compares one host's inventory with the database, in both directions, and repairs what differs: what has changed on
 * either side since the pass before, and one page of the rest. Everything is compared when it is unknown what has changed.
 * @param takenAt the database's time before the host is asked.
 * @param pageSize how many sandboxes are compared although nothing says that they have changed.
 */
export async function reconcileHost(
  context: PassContext,
  host: HostRow,
  takenAt: Date,
  pageSize: number,
): Promise<HostResult> {
  if (host.unreachableSince !== null) context.views.forget(host.id);
  const client = context.host(host.address);
  const view = context.views.of(host.id);
  const { sql } = context.database;
  const asked = [...view.watched];
  if (view.comparedUntil) asked.push(...await listChangedSandboxIds(sql, host.id, view.comparedUntil));
  let list: ListSandboxesResponse;
  try {
    const since = { epoch: view.epoch, sinceRevision: view.revision, sandboxIds: asked };
    list = await ask(client, host, { ...since, pageSize, pageAfterId: view.pageAfterId });
  } catch (thrown) {
    log("warn", "host_not_listed", { host_id: host.id, silent_ms: Math.round(host.silentMs) }, thrown);
    context.views.forget(host.id);
    return { repairs: await loseHost(context, host), reached: false };
  }
  const repairs: Repair[] = [];
  if (host.unreachableSince !== null && await setHostUnreachable(sql, host.id, false)) {
    repairs.push(context.repairs.record({ kind: "host_returned", hostId: host.id }));
  }
  const round = new Round(context, client, host, view, takenAt);
  if (list.changesComplete) await round.compareChanges(list, asked);
  else await round.compareAll();
  const comparedUntil = new Date(takenAt.getTime() - context.graceMs - COMMIT_MARGIN_MS);
  const times = { takenAt, comparedUntil };
  repairs.push(...round.repairs, ...await reconcileSnapshots(context, client, host, view.snapshots, times));
  // Only now: a pass that was cut short is repeated with the same questions.
  view.epoch = list.epoch;
  view.revision = list.revision;
  view.comparedUntil = comparedUntil;
  return { repairs, reached: true };
}

/** The comparisons of one pass with one host. */
class Round {
  readonly repairs: Repair[] = [];

  constructor(
    private readonly context: PassContext,
    private readonly client: HostClient,
    private readonly host: HostRow,
    private readonly view: HostView,
    private readonly takenAt: Date,
  ) {}

  async compareChanges(list: ListSandboxesResponse, asked: readonly string[]): Promise<void> {
    const range = { after: this.view.pageAfterId, end: list.pageEndId };
    await this.#settle(await compareWith(this.context.database, this.host, list, asked, range));
    this.view.pageAfterId = list.pageEndId;
  }

  async compareAll(): Promise<void> {
    const { context, host, view } = this;
    const watched = [...view.watched];
    await forEachPage(this.client, host, async (list, range) => {
      await this.#settle(await compareWith(context.database, host, list, [], range));
    });
    // What was watched and is on neither side has been compared, too, by not being there.
    for (const id of watched) if (!this.#seen.has(id)) view.watched.delete(id);
    view.pageAfterId = "";
  }

  readonly #seen = new Set<string>();

  async #settle(comparison: Comparison): Promise<void> {
    const { context, client, host } = this;
    const { infos, rows } = comparison;
    const inventory = { hostId: host.id, takenAt: this.takenAt, graceMs: context.graceMs };
    for (const id of comparison.ids) {
      const [row, info] = [rows.get(id), infos.get(id)];
      const verdict = judge(row, info, inventory);
      const repair = verdict.do === "nothing"
        ? undefined
        : await repairSandbox(context, client, host, id, row, verdict);
      if (repair) this.repairs.push(repair);
      const isOrphan = info !== undefined && (!row || row.state === "deleted" || row.hostId !== host.id);
      const again = verdict.do === "nothing" ? isOrphan : !repair;
      this.#seen.add(id);
      if (again) this.view.watched.add(id);
      else this.view.watched.delete(id);
    }
    await refreshActivity(context.database, rows, infos);
    await recordStoredBytes(context.database.sql, "sandboxes", host.id, measuredBytes(infos));
    await acknowledge(context.database, client, host, comparison);
  }
}
