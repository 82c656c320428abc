/**
 * Everything the project says to PostgreSQL: the schema's migrations, and each query as a named function in the file of
 * its noun. Functions take a {@linkcode Queryable}, so that callers can combine several in one transaction.
 */
export * from "./advisory_lock.ts";
export * from "./api_keys.ts";
export * from "./audit.ts";
export * from "./certificate_authority.ts";
export * from "./census.ts";
export * from "./database.ts";
export * from "./db_errors.ts";
export * from "./forks.ts";
export * from "./host_states.ts";
export * from "./host_tokens.ts";
export * from "./hosts.ts";
export * from "./idempotency.ts";
export * from "./inventory.ts";
export * from "./kept_snapshot_expiry.ts";
export * from "./kept_snapshot_lists.ts";
export * from "./kept_snapshots.ts";
export * from "./migrate.ts";
export * from "./operation_feed.ts";
export * from "./operation_steps.ts";
export * from "./operations.ts";
export * from "./quotas.ts";
export * from "./rate_limit.ts";
export * from "./port_sandboxes.ts";
export * from "./reclaim.ts";
export * from "./reservations.ts";
export * from "./sandboxes.ts";
export * from "./sandbox_lists.ts";
export * from "./sandbox_network.ts";
export * from "./sandbox_sweeps.ts";
export * from "./snapshots.ts";
export * from "./stored_bytes.ts";
export * from "./teams.ts";
export * from "./traces.ts";
export * from "./usage.ts";
export * from "./webhook_deliveries.ts";
export * from "./webhooks.ts";
