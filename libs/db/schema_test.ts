import { assertEquals } from "@std/assert";
import { openTestDatabase } from "@torpor/testing/postgres";

const EXPECTED = new URL("./schema.txt", import.meta.url);

Deno.test("the migrations make the schema of schema.txt", async () => {
  // After a new migration: UPDATE_SCHEMA=1 deno test -A libs/db/schema_test.ts, and read the difference.
  await using test = await openTestDatabase();
  const lines = await test.database.sql<{ line: string }[]>`
    select line from (
    select format('%s.%s %s%s%s', table_name, column_name, data_type,
      case when is_nullable = 'NO' then ' not null' else '' end, ' default ' || column_default) as line
    from information_schema.columns where table_schema = 'public' and table_name not like 'kysely%'
    union all
    select format('%s %s', conrelid::regclass, pg_get_constraintdef(pg_constraint.oid)) from pg_constraint
    where connamespace = 'public'::regnamespace and conrelid::regclass::text not like 'kysely%'
    union all
    select indexdef from pg_indexes where schemaname = 'public' and tablename not like 'kysely%'
    union all
    select pg_get_triggerdef(oid) from pg_trigger where not tgisinternal
    ) as lines order by line collate "C"`;
  const schema = lines.map(({ line }) => line + "\n").join("");
  if (Deno.env.get("UPDATE_SCHEMA")) await Deno.writeTextFile(EXPECTED, schema);
  assertEquals(schema, await Deno.readTextFile(EXPECTED));
});
