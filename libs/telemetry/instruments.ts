/** What an attribute of a metric says. Each has few values, all of them known to the code: never an id, a name or a path. */
export const METRIC_ATTRIBUTES = {
  "torpor.outcome": "`ok`, or the error's stable code",
  "torpor.tier": "how much was ready: `cold` boots a kernel, `clone` spawns from a kept snapshot, `warm` resumes",
  "torpor.operation": "kind of a lifecycle operation: `create`, `pause`, `resume` …",
  "torpor.state": "state of a sandbox, a host, a webhook or a database connection",
  "torpor.hook.step": "`fstrim`, `sync`, `drop_caches`, `compact_memory`, `report_free` or `freeze`",
  "torpor.hook.outcome": "`ok`, `timed_out` or `failed`",
  "torpor.snapshot.kind": "`generation` (of a pause) or `kept`",
  "torpor.snapshot.part": "`memory`, `disk` or `device_state`",
  "torpor.page.source": "`zero`, `generation` (the sandbox's own snapshots), `base` (shared with others) or `prefetch`",
  "torpor.phase": "`resume` (until the guest has answered) or `life` (until the VM ended)",
  "torpor.collection": "`unreferenced`, `compacted` or `difference`",
  "torpor.repair": "kind of a repair of the reconciler, docs/lifecycle.md",
  "torpor.placement": "`single` or `group`",
  "torpor.delivery": "`delivered`, `retried` (an attempt failed, another follows) or `failed` (given up)",
  "torpor.egress.outcome":
    "`passed`, or why a connection of a sandbox was refused or cut: `not_allowed`, `reserved_address` …",
  "torpor.query": "name of a query or transaction, as in the span `db.<name>`",
  "torpor.service": "`api`, `scheduler`, `reconciler`, `hostagent` or `other`",
  "http.route": "path template of a route of the REST API",
  "http.request.method": "`GET`, `POST` …, `_OTHER`",
  "torpor.status_class": "`2xx`, `4xx` …",
  "rpc.method": "service and method of an RPC",
} as const;

/** Name of an attribute, see {@linkcode METRIC_ATTRIBUTES}. */
export type MetricAttribute = keyof typeof METRIC_ATTRIBUTES;

/** How values are aggregated. `active` goes up and down; a `gauge` is asked for when metrics are collected. */
export type InstrumentKind = "counter" | "histogram" | "active" | "gauge";

/** One metric. */
export interface Instrument<Kind extends InstrumentKind, Attribute extends MetricAttribute> {
  kind: Kind;
  /** In UCUM: `s`, `By`, or what is counted in braces. */
  unit: string;
  description: string;
  attributes: readonly Attribute[];
  /** Upper bounds of a histogram's buckets, in its unit. */
  buckets?: readonly number[];
}

/** From what a warm resume takes on fast hardware up to the deadline of a large pause, s. */
const OPERATION_SECONDS = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300];
/** Of single requests and queries, s. */
const REQUEST_SECONDS = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 30];
/** A guest notices a stop of some 10 ms, s. */
const STOP_SECONDS = [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1, 5];
/** The pager answers in 10 to 100 µs, s. */
const FAULT_SECONDS = [5e-6, 1e-5, 2e-5, 4e-5, 8e-5, 1.6e-4, 3.2e-4, 6.4e-4, 1.28e-3, 5e-3, 2e-2, 0.1];

function seconds<Attribute extends MetricAttribute>(
  description: string,
  attributes: readonly Attribute[],
  buckets = OPERATION_SECONDS,
): Instrument<"histogram", Attribute> {
  return { kind: "histogram", unit: "s", description, attributes, buckets };
}

function counter<Attribute extends MetricAttribute>(
  unit: string,
  description: string,
  attributes: readonly Attribute[],
): Instrument<"counter", Attribute> {
  return { kind: "counter", unit, description, attributes };
}

function active(unit: string, description: string): Instrument<"active", never> {
  return { kind: "active", unit, description, attributes: [] };
}

function gauge<Attribute extends MetricAttribute>(
  unit: string,
  description: string,
  attributes: readonly Attribute[],
): Instrument<"gauge", Attribute> {
  return { kind: "gauge", unit, description, attributes };
}

/** Every metric of the system. docs/metrics.md says which service has which. */
export const INSTRUMENTS = {
  // Lifecycle, as the control plane carries it out: placement, journal and host included.
  "torpor.sandbox.create.duration": seconds("Creating a sandbox", ["torpor.tier", "torpor.outcome"]),
  "torpor.sandbox.resume.duration": seconds("Resuming a sandbox", ["torpor.tier", "torpor.outcome"]),
  "torpor.sandbox.pause.duration": seconds("Pausing a sandbox", ["torpor.outcome"]),
  "torpor.sandbox.checkpoint.duration": seconds("A snapshot of a running sandbox", ["torpor.outcome"]),
  "torpor.sandbox.snapshot.duration": seconds("A snapshot of a paused sandbox", ["torpor.outcome"]),
  "torpor.sandbox.fork.duration": seconds("A fork with all its children", ["torpor.tier", "torpor.outcome"]),
  "torpor.sandbox.delete.duration": seconds("Deleting a sandbox", ["torpor.outcome"]),
  "torpor.placement.duration": seconds("Choosing a host", ["torpor.placement", "torpor.outcome"], REQUEST_SECONDS),

  // What a host does.
  "torpor.host.operation.duration": seconds("A host agent's operation", ["torpor.operation", "torpor.outcome"]),
  "torpor.checkpoint.stop.duration": seconds("How long the vCPUs stood still for a checkpoint", [], STOP_SECONDS),
  "torpor.guest.hook.runs": counter(
    "{run}",
    "Steps that guests were asked for before a pause",
    ["torpor.hook.step", "torpor.hook.outcome"],
  ),
  "torpor.guest.hook.duration": seconds(
    "One step in the guest before a pause",
    ["torpor.hook.step", "torpor.hook.outcome"],
  ),
  "torpor.guest.reclaimed": counter("By", "Memory and disk that guests gave back before a pause", ["torpor.hook.step"]),
  "torpor.snapshot.stored": counter(
    "By",
    "Bytes written by snapshots",
    ["torpor.snapshot.kind", "torpor.snapshot.part"],
  ),
  "torpor.snapshot.dirty": counter("By", "Guest memory that had changed", ["torpor.snapshot.kind"]),
  "torpor.snapshot.collected": counter("By", "Disk space that the collector gave back", ["torpor.collection"]),

  // Memory that comes back lazily.
  "torpor.pager.faults": counter("{fault}", "Page faults that pagers answered", []),
  "torpor.pager.installed": counter("By", "Guest memory that pagers installed", ["torpor.page.source"]),
  "torpor.pager.read": counter("By", "Snapshot data that pagers read", ["torpor.page.source"]),
  "torpor.pager.fault.p99": seconds(
    "99th percentile of a VM's page faults, one value for each VM",
    ["torpor.phase"],
    FAULT_SECONDS,
  ),

  // What sandboxes reach by name.
  "torpor.egress.connections": counter("{connection}", "Connections that ended in the egress proxy", [
    "torpor.egress.outcome",
  ]),

  // Reconciliation: each repair is a fault somewhere else.
  "torpor.reconciler.repairs": counter("{repair}", "Disagreements that were repaired", ["torpor.repair"]),
  "torpor.reconciler.pass.duration": seconds("One pass over hosts and database", ["torpor.outcome"]),
  "torpor.sandboxes": gauge("{sandbox}", "Sandboxes that are not deleted", ["torpor.state"]),
  "torpor.operations.open": gauge("{operation}", "Operations that have not ended", ["torpor.operation"]),
  "torpor.hosts": gauge("{host}", "Hosts", ["torpor.state"]),

  // Webhooks.
  "torpor.webhook.deliveries": counter("{attempt}", "Attempts to deliver events to webhooks", ["torpor.delivery"]),
  "torpor.webhook.attempt.duration": seconds("One attempt, the receiver's answer included", ["torpor.outcome"]),
  "torpor.webhook.pending": gauge("{delivery}", "Events that wait to be delivered to webhooks", []),
  "torpor.webhook.endpoints": gauge("{webhook}", "Webhooks", ["torpor.state"]),

  // What clients and services ask for.
  "torpor.api.request.duration": seconds(
    "A REST request until its answer begins",
    ["http.route", "http.request.method", "torpor.status_class"],
    REQUEST_SECONDS,
  ),
  "torpor.rpc.duration": seconds("A ConnectRPC call until its end", ["rpc.method", "torpor.outcome"], REQUEST_SECONDS),

  // PostgreSQL.
  "torpor.db.query.duration": seconds(
    "A query or transaction, waiting for a connection included",
    ["torpor.query", "torpor.outcome"],
    REQUEST_SECONDS,
  ),
  "torpor.db.queries.active": active("{query}", "Queries and transactions under way or waiting for a connection"),
  "torpor.db.connections": gauge(
    "{connection}",
    "Connections as the server sees them",
    ["torpor.service", "torpor.state"],
  ),
} as const;

/** All metrics, and those of one kind. */
export type MetricName<Kind extends InstrumentKind = InstrumentKind> = {
  [Name in keyof typeof INSTRUMENTS]: typeof INSTRUMENTS[Name]["kind"] extends Kind ? Name : never;
}[keyof typeof INSTRUMENTS];

/** The attributes of a metric: all of them, no others. */
export type MetricAttributes<Name extends MetricName> = Record<
  typeof INSTRUMENTS[Name]["attributes"][number],
  string
>;
