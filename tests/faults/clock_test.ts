import { assertEquals } from "@std/assert";
import { ControlPlane, TEAM } from "../integration/control/control_plane.ts";

/** The wall clock of this process, with all services in it, from now on; PostgreSQL and monotonic clocks know better. */
function jump(ms: number): Disposable {
  const real = Date.now;
  Date.now = () => real() + ms;
  return { [Symbol.dispose]: () => void (Date.now = real) };
}

for (const hours of [1, -1]) {
  Deno.test(`services whose clock jumps by ${hours} h carry operations out, and repair nothing that is well`, async () => {
    await using plane = await ControlPlane.start();
    await using reconciler = await plane.startReconciler({ unknownGraceMs: 5_000 });
    const { id } = await plane.create();
    using _jumped = jump(hours * 3_600_000);
    // Longer than what would be left of a deadline that this clock takes for past.
    const gate = plane.host.hold("pauseSandbox");
    const pause = plane.lifecycle.pauseSandbox(TEAM, id);
    await gate.reached;
    await plane.database.sql`select pg_sleep(1.5)`;
    assertEquals(await reconciler.pass(), []);
    gate.release();
    assertEquals((await pause).state, "paused");
    assertEquals((await plane.lifecycle.resumeSandbox(TEAM, id)).state, "running");
    plane.lifecycle.touch(id);
    // A second process waits for an operation of the first.
    await using other = plane.openLifecycle();
    const second = plane.host.hold("pauseSandbox");
    const both = [plane.lifecycle.pauseSandbox(TEAM, id), other.pauseSandbox(TEAM, id)];
    await second.reached;
    second.release();
    assertEquals((await Promise.all(both)).map(({ state }) => state), ["paused", "paused"]);
    assertEquals(await reconciler.pass(), []);
    assertEquals(await plane.lifecycle.deleteSandbox(TEAM, id), { confirmed: true });
    assertEquals(await plane.reserved(), { vcpus: 0, memoryMb: 0n, diskMb: 0n });
  });
}
