import { assertEquals } from "@std/assert";
import type { DiskFault } from "../driver.ts";
import { QemuDiskFaults } from "./disk_faults.ts";
import type { Qmp, QmpEvent } from "./qmp.ts";

type Answers = Record<string, unknown>;

/** What a monitor says: events when told to, and these answers. */
function monitor(answers: Answers = {}): { qmp: Qmp; say(event: string, data?: Record<string, unknown>): void } {
  let follower = (_: QmpEvent) => {};
  const qmp = {
    follow: (wanted: typeof follower) => void (follower = wanted),
    execute: (command: string) => Promise.resolve(answers[command]),
  };
  return { qmp: qmp as unknown as Qmp, say: (event, data = {}) => follower({ event, data }) };
}

Deno.test("a failed write that stops the guest is a fault until the guest runs; a stop by command is none", () => {
  const { qmp, say } = monitor();
  const faults = new QemuDiskFaults(qmp);
  const told: (DiskFault | undefined)[] = [];
  {
    using _listening = faults.onChange((fault) => told.push(fault));
    say("STOP");
    say("RESUME");
    say("BLOCK_IO_ERROR", { action: "report", nospace: true });
    say("STOP");
    say("RESUME");
    assertEquals(told, []);
    say("BLOCK_IO_ERROR", { action: "stop", nospace: true });
    assertEquals(faults.current, undefined);
    say("STOP");
    assertEquals(faults.current, "no_space");
    say("RESUME");
    say("BLOCK_IO_ERROR", { action: "stop", nospace: false });
    say("STOP");
  }
  say("RESUME");
  assertEquals(told, ["no_space", undefined, "io_error"]);
  assertEquals(faults.current, undefined);
});

Deno.test("a write that fails while the guest stands still by command is tried again when that ends", () => {
  const { qmp, say } = monitor();
  const faults = new QemuDiskFaults(qmp);
  say("STOP");
  say("BLOCK_IO_ERROR", { action: "stop", nospace: true });
  assertEquals(faults.current, undefined);
  say("RESUME");
  say("STOP");
  assertEquals(faults.current, undefined);
});

for (const [status, found] of [["nospace", "no_space"], ["failed", "io_error"]] as const) {
  Deno.test(`a guest that was stopped before anybody listened: ${found}`, async () => {
    const disks = [{ "io-status": "ok" }, { "io-status": status }, {}];
    const faults = new QemuDiskFaults(monitor({ "query-status": { status: "io-error" }, "query-block": disks }).qmp);
    await faults.find();
    assertEquals(faults.current, found);
  });
}

Deno.test("a guest that was stopped by command before anybody listened has no fault", async () => {
  const faults = new QemuDiskFaults(monitor({ "query-status": { status: "paused" } }).qmp);
  await faults.find();
  assertEquals(faults.current, undefined);
});
