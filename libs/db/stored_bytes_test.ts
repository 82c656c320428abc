import { assertEquals } from "@std/assert";
import { newId } from "@torpor/ids";
import { openTestDatabase } from "@torpor/testing/postgres";
import { recordStoredBytes, storedBytesOfTeam } from "./stored_bytes.ts";

Deno.test("what hosts have measured is summed by team; deleted rows and other hosts' words do not count", async () => {
  await using test = await openTestDatabase();
  const { sql } = test.database;
  const [host, other] = [newId(), newId()];
  await sql`insert into teams (id, name) values ('others', 'others')`;
  for (const id of [host, other]) {
    await sql`insert into hosts (id, name, address, vcpus, memory_mb, disk_mb, agent_version)
      values (${id}, ${id}, 'unix:/h', 1, 1, 1, '')`;
  }
  const ids = Array.from({ length: 3 }, newId);
  for (const [index, id] of ids.entries()) {
    await sql`insert into sandboxes (id, team_id, state, reason, template, host_id, vcpus, memory_mb, disk_size_mb, timeout_sec)
      values (${id}, ${index < 2 ? "default" : "others"}, 'failed', 'vm_gone', 'x', ${host}, 1, 256, 64, 0)`;
  }
  const bytes = (uniqueBytes: bigint, sharedBytes: bigint) => ({ uniqueBytes, sharedBytes });
  await recordStoredBytes(
    sql,
    "sandboxes",
    host,
    new Map(ids.map((id, index) => [id, bytes(2n ** 40n, BigInt(index))])),
  );
  await recordStoredBytes(sql, "sandboxes", other, new Map([[ids[0]!, bytes(1n, 1n)]]));
  assertEquals((await storedBytesOfTeam(sql, "default")).sandboxes, bytes(2n ** 41n, 1n));
  assertEquals((await storedBytesOfTeam(sql, "others")).sandboxes, bytes(2n ** 40n, 2n));
  assertEquals(await storedBytesOfTeam(sql, "nobody"), { sandboxes: bytes(0n, 0n), snapshots: bytes(0n, 0n) });
  const before = await sql`select xmin::text from sandboxes where id = ${ids[0]!}`;
  await recordStoredBytes(sql, "sandboxes", host, new Map([[ids[0]!, bytes(2n ** 40n, 0n)]]));
  assertEquals(await sql`select xmin::text from sandboxes where id = ${ids[0]!}`, before, "nothing new is not written");
  await sql`update sandboxes set state = 'deleted', deleted_at = now() where id = ${ids[0]!}`;
  assertEquals((await storedBytesOfTeam(sql, "default")).sandboxes, bytes(2n ** 40n, 1n));
});
