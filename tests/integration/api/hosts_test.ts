import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { SandboxService } from "@torpor/proto/torpor";
import { TestApi } from "./harness.ts";

Deno.test("hosts are changed by the administrator only, by id or name", async () => {
  await using api = await TestApi.start();
  const { hosts } = (await api.call("GET", "/v1/hosts")).json;
  const path = `/v1/hosts/${hosts[0].host_id}`;
  const asAdmin = { key: api.token };
  const changes: [string, string, unknown?][] = [
    ["POST", "/v1/host-tokens", { name: "new" }],
    ["POST", `${path}/cordon`],
    ["POST", `${path}/drain`],
    ["POST", `${path}/uncordon`],
    ["DELETE", path],
  ];
  for (const [method, at, json] of changes) {
    const refused = await api.call(method, at, { json });
    assertEquals([refused.status, refused.json.code], [403, "permission_denied"], at);
  }
  assertEquals((await api.call("GET", path)).json.state, "ready");

  const token = await api.call("POST", "/v1/host-tokens", { ...asAdmin, json: { name: "new" } });
  assertEquals(token.status, 201);
  assertMatch(token.json.token, /^torpor-host\.[\w-]{32}\.[\w-]{300,}$/);
  const odd = await api.call("POST", "/v1/host-tokens", { ...asAdmin, json: { name: "Not a name" } });
  assertEquals([odd.status, odd.json.field], [422, "name"]);

  const state = async (verb: string) =>
    (await api.call("POST", `/v1/hosts/${encodeURIComponent(hosts[0].name)}/${verb}`, asAdmin)).json.state;
  assertEquals([await state("cordon"), await state("drain"), await state("uncordon")], [
    "cordoned",
    "draining",
    "ready",
  ]);
  assertEquals((await api.call("POST", "/v1/hosts/nobody/cordon", asAdmin)).json.code, "host_not_found");
});

Deno.test("a sandbox keeps its host from being removed; labels and capabilities choose the host", async () => {
  await using api = await TestApi.start();
  const { hosts } = (await api.call("GET", "/v1/hosts")).json;
  const path = `/v1/hosts/${hosts[0].host_id}`;
  const made = await api.call("POST", "/v1/sandboxes", { json: {} });
  assertEquals(made.status, 201);
  const refused = await api.call("DELETE", path, { key: api.token });
  assertEquals([refused.status, refused.json.code], [409, "conflict"]);
  assertMatch(refused.json.message, /1 sandboxes/);
  assertEquals((await api.call("GET", path)).json.active_sandboxes, 1);

  for (const demand of [{ host_labels: { zone: "z" } }, { required_capabilities: ["accelerator:quantum"] }]) {
    const nowhere = await api.call("POST", "/v1/sandboxes", { json: demand });
    assertEquals([nowhere.status, nowhere.json.code], [503, "no_capacity"]);
  }
  using sandboxes = api.client(SandboxService);
  for (const demand of [{ hostLabels: { zone: "z" } }, { requiredCapabilities: ["accelerator:quantum"] }]) {
    const nowhere = await assertRejects(() => sandboxes.createSandbox({ memoryMb: 128, ...demand }), TorporError);
    assertEquals(nowhere.code, "no_capacity");
  }
  await api.database.sql`update hosts set labels = ${{ zone: "z" }}, capabilities = ${["accelerator:quantum"]}`;
  const suited = { hostLabels: { zone: "z" }, requiredCapabilities: ["accelerator:quantum"] };
  const { sandbox } = await sandboxes.createSandbox({ memoryMb: 128, ...suited });
  assertEquals((await api.call("DELETE", `/v1/sandboxes/${sandbox!.sandboxId}`)).status, 204);

  const removed = await api.call("DELETE", `${path}?force=true`, { key: api.token });
  assertEquals([removed.status, removed.json.sandboxes], [200, 1]);
  assertEquals((await api.call("GET", "/v1/hosts")).json.hosts, []);
});
