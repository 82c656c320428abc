import { assertEquals, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { SandboxService } from "@torpor/proto/torpor";
import { type Json, TestApi } from "./harness.ts";

const ANYTHING = { allow_internet_access: true, allow_out: [], deny_out: [] };

/** What is shown of what a sandbox may reach. */
function reach({ network }: Json) {
  const { allow_internet_access, allow_out, deny_out } = network;
  return { allow_internet_access, allow_out, deny_out };
}

/** What the host was told by its last call of a method. */
function told(api: TestApi, method: string): Json {
  const request = api.host.calls.findLast((call) => call.method === method)!.request;
  const { network, networkRevision } = request as Json;
  const { allowInternetAccess, allowOut, denyOut } = network;
  return { allowInternetAccess, allowOut, denyOut, revision: Number(networkRevision) };
}

Deno.test("what a sandbox may reach goes to its host with its creation and resume, and is shown", async () => {
  await using api = await TestApi.start();
  const network = {
    allow_internet_access: false,
    allow_out: ["1.1.1.1/32", "*.Example.com"],
    deny_out: ["10.0.0.0/8"],
  };
  const shown = { ...network, allow_out: ["1.1.1.1", "*.example.com"] };
  const created = await api.call("POST", "/v1/sandboxes", { json: { memory_mb: 128, network } });
  assertEquals([created.status, reach(created.json)], [201, shown]);
  const policy = { allowInternetAccess: false, allowOut: ["1.1.1.1", "*.example.com"], denyOut: ["10.0.0.0/8"] };
  assertEquals(told(api, "createSandbox"), { ...policy, revision: 0 });
  const path = `/v1/sandboxes/${created.json.sandbox_id}`;
  assertEquals(reach((await api.call("GET", path)).json), shown);
  await api.call("POST", `${path}/pause`);
  await api.call("POST", `${path}/resume`);
  assertEquals(told(api, "resumeSandbox"), { ...policy, revision: 0 });
  const other = await api.call("POST", "/v1/sandboxes", { json: { memory_mb: 128 } });
  assertEquals(reach(other.json), ANYTHING);
});

Deno.test("a change is told to the host of a running sandbox at once, and of a paused one with its resume", async () => {
  await using api = await TestApi.start();
  const path = `/v1/sandboxes/${await api.createSandbox()}`;
  const closed = await api.call("PUT", `${path}/network`, {
    json: { deny_out: ["0.0.0.0/0"], allow_out: ["1.1.1.1"] },
  });
  assertEquals([closed.status, closed.json.state, closed.json.network.deny_out], [200, "running", ["0.0.0.0/0"]]);
  const policy = { allowInternetAccess: true, allowOut: ["1.1.1.1"], denyOut: ["0.0.0.0/0"] };
  assertEquals(told(api, "updateNetwork"), { ...policy, revision: 1 });
  await api.call("POST", `${path}/pause`);
  const calls = api.host.calls.length;
  const changed = await api.call("PUT", `${path}/network`, { json: { allow_internet_access: false } });
  assertEquals([changed.status, api.host.calls.length], [200, calls]);
  await api.call("POST", `${path}/resume`);
  assertEquals(told(api, "resumeSandbox"), { allowInternetAccess: false, allowOut: [], denyOut: [], revision: 2 });
  const again = await api.call("PUT", `${path}/network`, { json: {} });
  assertEquals([again.status, reach(again.json)], [200, ANYTHING]);
  // Entries are written a little later.
  const audited = async () => {
    const { entries } = (await api.call("GET", "/v1/audit")).json;
    return entries.filter(({ action }: { action: string }) => action === "sandbox.network").length;
  };
  while (await audited() < 3);
});

Deno.test("a change that the host has not confirmed is recorded all the same", async () => {
  await using api = await TestApi.start();
  const path = `/v1/sandboxes/${await api.createSandbox()}`;
  api.host.faults.errors.updateNetwork = new TorporError("unavailable", "away");
  const changed = await api.call("PUT", `${path}/network`, { json: { allow_internet_access: false } });
  assertEquals([changed.status, changed.json.network.allow_internet_access], [202, false]);
  assertEquals((await api.call("GET", path)).json.network.allow_internet_access, false);
});

Deno.test("children of a fork may reach what their source may", async () => {
  await using api = await TestApi.start();
  const path = `/v1/sandboxes/${await api.createSandbox()}`;
  await api.call("PUT", `${path}/network`, { json: { allow_internet_access: false, allow_out: ["1.1.1.1"] } });
  const fork = await api.call("POST", `${path}/fork`);
  assertEquals(reach(fork.json.children[0]), { ...ANYTHING, allow_internet_access: false, allow_out: ["1.1.1.1"] });
  assertEquals(told(api, "createSandbox"), {
    ...{ allowInternetAccess: false, allowOut: ["1.1.1.1"], denyOut: [], revision: 0 },
  });
});

Deno.test("an odd entry is refused by its place, before anything is touched", async () => {
  await using api = await TestApi.start();
  const id = await api.createSandbox();
  const path = `/v1/sandboxes/${id}/network`;
  const refusals: [unknown, string][] = [
    [{ deny_out: ["10.0.0.1/8"] }, "deny_out.0"],
    [{ deny_out: ["9.9.9.9", "example.com"] }, "deny_out.1"],
    [{ allow_out: ["example.com"] }, "allow_out.0"],
    [{ allow_internet_access: false, allow_out: ["169.254.169.254"] }, "allow_out.0"],
    [{ allow_internet_access: "no" }, "allow_internet_access"],
    [{ allow_out: "1.1.1.1" }, "allow_out"],
    [{ deny_out: Array(513).fill("1.1.1.1") }, "deny_out"],
    [{ deny: [] }, "deny"],
  ];
  for (const [json, field] of refusals) {
    const answer = await api.call("PUT", path, { json });
    assertEquals([answer.status, answer.json.code, answer.json.field], [422, "invalid_argument", field]);
    const create = await api.call("POST", "/v1/sandboxes", { json: { network: json } });
    assertEquals([create.status, create.json.field], [422, `network.${field}`]);
  }
  assertEquals((await api.call("PUT", path, { body: "{}" })).status, 415);
  assertEquals((await api.call("PUT", path)).status, 415);
  const large = JSON.stringify({ deny_out: ["x".repeat(2_000_000)] });
  assertEquals(
    (await api.call("PUT", path, { body: large, headers: { "content-type": "application/json" } })).status,
    413,
  );
  assertEquals(api.host.calls.filter(({ method }) => method === "updateNetwork").length, 0);
  assertEquals((await api.call("PUT", "/v1/sandboxes/aaaaaaaaaaaaaaaaaaaa/network", { json: {} })).status, 404);
});

Deno.test("the same over ConnectRPC", async () => {
  await using api = await TestApi.start();
  using client = api.client(SandboxService);
  const network = { allowInternetAccess: false, allowOut: ["example.com"], denyOut: [] };
  const { sandbox } = await client.createSandbox({ memoryMb: 128, network });
  assertEquals(sandbox!.network!.allowOut, ["example.com"]);
  const { sandboxId } = sandbox!;
  const updated = await client.updateNetwork({ sandboxId, network: { denyOut: ["8.8.8.8"] } });
  assertEquals([updated.confirmed, updated.sandbox!.network!.allowInternetAccess], [true, true]);
  assertEquals(told(api, "updateNetwork").denyOut, ["8.8.8.8"]);
  const thrown = await assertRejects(() => client.updateNetwork({ sandboxId, network: { denyOut: ["example.com"] } }));
  assertEquals((thrown as TorporError).field, "network.deny_out.0");
});
