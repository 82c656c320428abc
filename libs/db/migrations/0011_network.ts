import { type Kysely, sql } from "kysely";

const STATEMENTS = [
  `alter table sandboxes
    add column network jsonb not null default '{"allowInternetAccess": true, "allowOut": [], "denyOut": []}',
    -- Hosts are told anew of what is newer than what they say they have.
    add column network_revision int8 not null default 0 check (network_revision >= 0),
    add column network_changed_at timestamptz`,
  `create index sandboxes_network_changed on sandboxes (host_id, network_changed_at)
    where network_changed_at is not null and state <> 'deleted'`,
];

/** What sandboxes may reach. */
export async function up(database: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(database);
}
