import { assertEquals } from "@std/assert";
import { newId } from "@torpor/ids";
import { openTestDatabase } from "@torpor/testing/postgres";
import { type AuditRow, deleteOldAuditRows, insertAuditRows, listAuditRows, takeToken } from "./mod.ts";

function entry(changes: Partial<AuditRow>): AuditRow {
  const nothing = { target: "", traceId: "", address: "" };
  return {
    ...nothing,
    id: newId(),
    teamId: "default",
    keyId: "k",
    action: "sandbox.pause",
    code: "ok",
    createdAt: new Date(),
    ...changes,
  };
}

Deno.test("audit entries are listed newest first in pages, by team and target, and forgotten by age", async () => {
  await using test = await openTestDatabase();
  const { sql } = test.database;
  const old = entry({ createdAt: new Date(Date.now() - 3_600_000), target: "x" });
  const entries = [
    old,
    entry({ teamId: "other", createdAt: new Date(Date.now() - 1000) }),
    entry({ code: "conflict" }),
  ];
  await insertAuditRows(sql, entries);
  await insertAuditRows(sql, entries);
  assertEquals((await listAuditRows(sql, {})).entries, [...entries].reverse());
  assertEquals((await listAuditRows(sql, { teamId: "other" })).entries, [entries[1]!]);
  assertEquals((await listAuditRows(sql, { target: "x" })).entries, [old]);
  const first = await listAuditRows(sql, { limit: 2 });
  assertEquals(await listAuditRows(sql, { limit: 2, cursor: first.nextCursor }), { entries: [old], nextCursor: "" });
  assertEquals(await deleteOldAuditRows(sql, 1_800_000, 10), 1);
  assertEquals((await listAuditRows(sql, {})).entries.length, 2);
});

Deno.test("a bucket gives as many tokens at once as flow in a second, and tells when there is one again", async () => {
  await using test = await openTestDatabase();
  const { sql } = test.database;
  const answers = await Promise.all(Array.from({ length: 20 }, () => takeToken(sql, "t", 1)));
  // More than a second may have passed on a busy machine; the second token then is due.
  const allowed = answers.filter((answer) => answer.allowed).length;
  assertEquals(allowed >= 1 && allowed < 10, true, String(allowed));
  const refused = answers.find((answer) => !answer.allowed)!;
  assertEquals(refused.retryAfterSec > 0 && refused.retryAfterSec <= 1, true);
  await sql`update team_buckets set filled_at = filled_at - interval '1 hour', tokens = 0`;
  const later = await Promise.all(Array.from({ length: 8 }, () => takeToken(sql, "t", 3)));
  assertEquals(later.filter((answer) => answer.allowed).length >= 3, true);
  assertEquals((await takeToken(sql, "other", 1)).allowed, true);
});
