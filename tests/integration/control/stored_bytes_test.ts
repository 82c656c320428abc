import { assertEquals } from "@std/assert";
import { newId } from "@torpor/ids";
import { storedBytesOfTeam } from "@torpor/db";
import { ControlPlane, TEAM } from "./control_plane.ts";

Deno.test("what hosts have measured reaches the team's sums within a pass, and goes with what is deleted", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { sql } = plane.database;
  const { id } = await plane.create();
  const started = await plane.lifecycle.startSnapshot(TEAM, { sandboxId: id, name: "s" });
  const snapshot = await started.done;
  Object.assign(plane.host.sandboxes.get(id)!, { uniqueBytes: 5000n, sharedBytes: 20n });
  Object.assign(plane.host.kept.get(snapshot.id)!, { uniqueBytes: 7n, sharedBytes: 21n });
  await reconciler.pass();
  assertEquals(await storedBytesOfTeam(sql, TEAM), {
    sandboxes: { uniqueBytes: 5000n, sharedBytes: 20n },
    snapshots: { uniqueBytes: 7n, sharedBytes: 21n },
  });
  // An agent that has been started anew has not measured yet.
  Object.assign(plane.host.sandboxes.get(id)!, { uniqueBytes: 0n, sharedBytes: 0n });
  await reconciler.pass();
  assertEquals((await storedBytesOfTeam(sql, TEAM)).sandboxes.uniqueBytes, 5000n);
  await plane.lifecycle.deleteSnapshot(snapshot.id);
  await plane.lifecycle.deleteSandbox(TEAM, id);
  assertEquals(await storedBytesOfTeam(sql, TEAM), await storedBytesOfTeam(sql, newId()));
});
