import type { Migration } from "kysely/migration";
import * as initial from "./0001_initial.ts";
import * as mostFreeHost from "./0002_most_free_host.ts";
import * as snapshots from "./0003_snapshots.ts";
import * as snapshotRetention from "./0004_snapshot_retention.ts";
import * as sweeps from "./0005_sweeps.ts";
import * as hosts from "./0006_hosts.ts";
import * as teams from "./0007_teams.ts";
import * as webhooks from "./0008_webhooks.ts";
import * as storedBytes from "./0009_stored_bytes.ts";
import * as answers from "./0010_answers.ts";
import * as network from "./0011_network.ts";
import * as ports from "./0012_ports.ts";
import * as storedQuota from "./0013_stored_quota.ts";
import * as cheapRules from "./0014_cheap_rules.ts";

/** All migrations by name; they run in the order of their names and are never changed once released. */
export const MIGRATIONS: Record<string, Migration> = {
  "0001_initial": initial,
  "0002_most_free_host": mostFreeHost,
  "0003_snapshots": snapshots,
  "0004_snapshot_retention": snapshotRetention,
  "0005_sweeps": sweeps,
  "0006_hosts": hosts,
  "0007_teams": teams,
  "0008_webhooks": webhooks,
  "0009_stored_bytes": storedBytes,
  "0010_answers": answers,
  "0011_network": network,
  "0012_ports": ports,
  "0013_stored_quota": storedQuota,
  "0014_cheap_rules": cheapRules,
};
