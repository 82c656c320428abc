import { assert, assertEquals } from "@std/assert";
import { openTestDatabase } from "@torpor/testing/postgres";
import { AdvisoryLock } from "./mod.ts";

Deno.test("an advisory lock has one holder, is noticed when lost, and is free when given back", async () => {
  await using test = await openTestDatabase();
  for (const key of [1n, 0x746f_7270_6f72_0001n, (1n << 62n) - 1n]) {
    const lock = (await AdvisoryLock.tryAcquire(test.database, key))!;
    assertEquals(await AdvisoryLock.tryAcquire(test.database, key), undefined);
    await lock.verify();
    await test.terminateConnections();
    const verified = await lock.verify().then(() => "held", (error) => error.code ?? String(error));
    assert(["not_leader", "unavailable"].includes(verified), verified);
    await aborted(lock.lost);
    {
      await using next = await AdvisoryLock.tryAcquire(test.database, key);
      await next!.verify();
      assertEquals(await lock.verify().then(() => "held", (error) => error.code), "not_leader");
    }
    await using again = await AdvisoryLock.tryAcquire(test.database, key);
    await again!.verify();
    await lock[Symbol.asyncDispose]();
  }
});

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => resolve());
  await promise;
}
