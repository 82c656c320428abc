import { assertEquals, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import {
  type HostAgentProcess,
  makeTestHome,
  processesWith,
  startHostAgentProcess,
  startTestHostAgent,
} from "@torpor/testing/hostagent";

// Which change of a sandbox's network a host goes by. What the rules do with packets: tests/integration/network.

const CLOSED = { allowInternetAccess: false, allowOut: ["1.1.1.1", "*.example.com"], denyOut: ["2.0.0.0/8"] };

async function refusal(call: Promise<unknown>): Promise<[string, string | undefined]> {
  const { code, field } = await assertRejects(() => call, TorporError);
  return [code, field];
}

Deno.test("the newest revision counts, an older call is fenced, odd entries and sandboxes are refused", async () => {
  await using host = await startTestHostAgent();
  const { client } = host;
  const sandboxId = newId();
  const small = { sandboxId, version: 3n, memoryMb: 192, diskSizeMb: 256 };
  await client.createSandbox({ ...small, network: { allowInternetAccess: true }, networkRevision: 0n });
  const { record } = host.agent.manager.get(sandboxId);
  const update = (networkRevision: bigint, network = CLOSED, version = 3n) =>
    client.updateNetwork({ sandboxId, version, network, networkRevision });

  assertEquals((await update(2n)).networkRevision, 2n);
  assertEquals(record.network, {
    allow_internet_access: false,
    allow_out: ["1.1.1.1", "*.example.com"],
    deny_out: ["2.0.0.0/8"],
    revision: 2,
  });
  // It was sent earlier, and has been overtaken.
  assertEquals((await update(1n, { ...CLOSED, allowOut: [] })).networkRevision, 2n);
  assertEquals(record.network.allow_out.length, 2);
  assertEquals(await refusal(update(3n, CLOSED, 2n)), ["fenced", undefined]);
  assertEquals(await refusal(update(3n, { ...CLOSED, denyOut: ["2.0.0.1/8"] })), [
    "invalid_argument",
    "network.deny_out.0",
  ]);
  assertEquals(await refusal(update(-1n)), ["invalid_argument", "network_revision"]);
  assertEquals(await refusal(client.updateNetwork({ sandboxId })), ["invalid_argument", "network"]);
  assertEquals(await refusal(client.updateNetwork({ sandboxId: newId(), network: CLOSED, networkRevision: 9n })), [
    "sandbox_not_found",
    undefined,
  ]);
  const { sandboxes } = await client.listSandboxes({});
  assertEquals(sandboxes.map(({ networkRevision }) => networkRevision), [2n]);
});

Deno.test("a revision outlives a killed agent, and a resume brings its own", async () => {
  const home = await makeTestHome();
  const revision = async ({ client }: HostAgentProcess) =>
    (await client.listSandboxes({})).sandboxes[0]?.networkRevision;
  try {
    const sandboxId = newId();
    {
      await using agent = await startHostAgentProcess(home);
      await agent.client.createSandbox({ sandboxId, memoryMb: 192, diskSizeMb: 256 });
      assertEquals(await revision(agent), 0n);
      await agent.client.updateNetwork({ sandboxId, network: CLOSED, networkRevision: 1n });
      await agent.end("SIGKILL");
    }
    await using agent = await startHostAgentProcess(home);
    assertEquals(await revision(agent), 1n);
    await agent.client.pauseSandbox({ sandboxId });
    await agent.client.resumeSandbox({ sandboxId, network: CLOSED, networkRevision: 4n });
    assertEquals(await revision(agent), 4n);
    await agent.client.pauseSandbox({ sandboxId });
    await agent.client.resumeSandbox({ sandboxId });
    assertEquals(await revision(agent), 4n);
    await agent.client.terminate({});
    await agent.ended;
    assertEquals(await processesWith(home), []);
  } finally {
    await Deno.remove(home, { recursive: true });
  }
});
