import { assert, assertEquals } from "@std/assert";
import { loggedEvent } from "../host_agent.ts";
import { type Scenario, timed } from "../lane.ts";

/** The kernel has PAGEMAP_SCAN and asynchronous write protection from this version on. */
const FIRST_WITH_SCAN = [6, 7] as const;

/** The agent has tried KVM by itself and uses it; it knows which way of tracking written pages this kernel has. */
export const host: Scenario = {
  name: "host",
  async run(lane) {
    assertEquals((await loggedEvent("accelerator_probed"))?.accelerator, "kvm");
    const [id, bootMs] = await timed(() => lane.create());
    // A hypervisor's guests see its signature; emulated ones see another.
    const signature = "grep -c 'Hypervisor detected: KVM' <(dmesg)";
    assertEquals(await lane.exec(id, signature), "1");
    const { sandboxes } = await lane.client.listSandboxes({});
    assertEquals(sandboxes.map(({ accelerator }) => accelerator), ["kvm"]);

    const tracking = (await loggedEvent("host_ready"))?.tracking;
    const scans = tracking === true || tracking === "pagemap_scan";
    assertEquals(scans, kernelScans(), `tracking is ${tracking}`);
    assert(tracking !== undefined);
    return { boot_ms: bootMs, tracking: String(tracking) };
  },
};

function kernelScans(): boolean {
  const [major, minor] = Deno.osRelease().split(".").map(Number) as [number, number];
  return major > FIRST_WITH_SCAN[0] || major === FIRST_WITH_SCAN[0] && minor >= FIRST_WITH_SCAN[1];
}
