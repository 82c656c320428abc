import { assertEquals } from "@std/assert";
import { loggedEvent } from "../host_agent.ts";
import { type Scenario, timed } from "../lane.ts";

/**
 * The way to find written pages that the agent must choose by its self-tests: PAGEMAP_SCAN came with Linux 6.7, and
 * Debian's 6.1 has soft-dirty marks.
 */
const TRACKING: Record<string, string> = { "6.1": "soft_dirty", "6.12": "pagemap_scan" };

/** The agent has tried KVM by itself and uses it, and has chosen what suits this kernel. */
export const host: Scenario = {
  name: "host",
  async run(lane) {
    assertEquals((await loggedEvent("accelerator_probed"))?.accelerator, "kvm");
    const [id, bootMs] = await timed(() => lane.create());
    // A hypervisor's guests see its signature; emulated ones see another.
    assertEquals(await lane.exec(id, "dmesg | grep -c 'Hypervisor detected: KVM'"), "1");
    const { sandboxes } = await lane.client.listSandboxes({});
    assertEquals(sandboxes.map(({ accelerator }) => accelerator), ["kvm"]);

    const series = Deno.osRelease().split(".").slice(0, 2).join(".");
    const tracking = (await loggedEvent("host_ready"))?.tracking;
    assertEquals(tracking, TRACKING[series]);
    return { boot_ms: bootMs, tracking: String(tracking) };
  },
};
