import { assert, assertEquals } from "@std/assert";
import { listHosts, listOperations } from "@torpor/db";
import { asTorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { openTestDatabase } from "@torpor/testing/postgres";
import { assertAgreement } from "../crash/model/agreement.ts";
import { Plane } from "./plane.ts";
import { periodsUntilRest } from "./rest.ts";

Deno.test("500 placements at the same time, at three schedulers, on the last slots: none too many, none too few", async () => {
  await using test = await openTestDatabase();
  // 4 hosts of 8 slots by memory.
  const capacity = { vcpus: 100, memoryMb: 1_024n, diskMb: 100_000n };
  await using plane = await Plane.start({ databaseUrl: test.url, schedulers: 3, hosts: 4, capacity });
  const resources = { vcpus: 1, memoryMb: 128n, diskMb: 10n };
  const began = performance.now();
  const placements = await Promise.allSettled(
    Array.from({ length: 500 }, (_, n) => plane.schedulers[n % 3]!.place({ sandboxId: newId(), resources })),
  );
  const tookMs = Math.round(performance.now() - began);
  const refused = placements.filter((one) => one.status === "rejected").map(({ reason }) => asTorporError(reason).code);
  assertEquals(new Set(refused), new Set(["no_capacity"]));
  assertEquals(placements.length - refused.length, 32);
  const reserved = (await listHosts(test.database.sql)).map(({ reservedMemoryMb }) => reservedMemoryMb);
  assertEquals(reserved, [1_024n, 1_024n, 1_024n, 1_024n]);
  const sums = await test.database.sql<{ sum: bigint }[]>`
    select sum(memory_mb)::int8 as sum from reservations group by host_id`;
  assertEquals(sums.map(({ sum }) => sum), reserved);
  console.log(`faults_placements ${JSON.stringify({ placements: 500, tookMs, overcommits: 0 })}`);
});

Deno.test("50 verbs at the same time on one sandbox, at two replicas of the api, leave one history", async () => {
  await using test = await openTestDatabase();
  await using plane = await Plane.start({ databaseUrl: test.url, apis: 2, hosts: 2 });
  for (const withDelete of [false, true]) {
    const { sandbox_id: id } = await plane.demand("POST", "/v1/sandboxes");
    const path = `/v1/sandboxes/${id}`;
    const answers = await Promise.all(Array.from({ length: 50 }, (_, n) => {
      if (withDelete && n % 10 === 9) return plane.call("DELETE", path, { api: n });
      return plane.call("POST", `${path}/${n % 4 < 2 ? "pause" : "resume"}`, { api: n });
    }));
    const codes = answers.filter(({ status }) => status >= 300).map(({ json }) => json.code);
    const allowed = withDelete ? ["conflict", "sandbox_not_found"] : ["conflict"];
    assertEquals(codes.filter((code) => !allowed.includes(code)), []);
    await periodsUntilRest(plane, 5);
    await assertOneHistory(plane, id, withDelete);
    await assertAgreement(plane.database, plane.hosts);
  }
});

/** Each operation has ended before the next began, under a greater version, and was sent to one host. */
async function assertOneHistory(plane: Plane, id: string, deleted: boolean): Promise<void> {
  // In the order of their versions, which is that in which they held the sandbox: a begin may have waited for it.
  const journal = (await listOperations(plane.database.sql, id, 1_000)).sort((a, b) => Number(a.version - b.version));
  assert(journal.length >= 2, "nothing was done");
  for (const [index, { kind, state, version, finishedAt, hostId }] of journal.entries()) {
    const about = `${index}: ${kind} ${state}`;
    assert(finishedAt !== null && state !== "running", `${about} has not ended`);
    const next = journal[index + 1];
    assert(!next || next.version > version, `${about} has version ${version}, the next one ${next?.version}`);
    assert(!next?.finishedAt || next.finishedAt >= finishedAt, `${about} ended after the next one`);
    assertEquals(hostId, journal[0]!.hostId, about);
  }
  assertEquals(journal.filter(({ kind, state }) => kind === "delete" && state === "succeeded").length, deleted ? 1 : 0);
  const versions = plane.hosts.flatMap(({ calls }) => calls).filter(({ request }) => request.sandboxId === id)
    .map(({ request }) => request.version);
  assertEquals(versions, versions.toSorted((a, b) => a < b ? -1 : 1), "the host was called in the journal's order");
}
