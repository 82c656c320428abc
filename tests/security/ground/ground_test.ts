import { assert, assertEquals, assertRejects } from "@std/assert";
import { runTool } from "../../../services/cli/tool/run_tool.ts";
import { FORBIDDEN, INTERNET_PORTS, makeGround, type Namespace, PUBLIC, UPLINK, type WebAnswer } from "./mod.ts";
import { assertSealed } from "./seal.ts";

Deno.test("a test's internet answers at each address, notes what arrives, and leaves nothing behind", async () => {
  const before = await namespaces();
  {
    await using ground = await makeGround();
    const { agent, servers } = ground;
    for (const address of [PUBLIC.web, FORBIDDEN.metadata, `[${FORBIDDEN["unique local v6"]}]`]) {
      assertEquals((await fetchFrom(agent, `http://${address}/`)).reached, `${address}:80`);
    }
    assertEquals((await fetchFrom(agent, `https://${PUBLIC.web}/`)).from.split(":")[0], UPLINK.agent);

    const seen = await ground.arrivals();
    const tcp = seen.find(({ destination }) => destination === FORBIDDEN.metadata);
    assertEquals([tcp?.source, tcp?.protocol], [UPLINK.agent, 6]);
    await ground.forget();
    assertEquals(await ground.arrivals(), []);

    await servers.name("moves.test", [[PUBLIC.web], ["10.0.0.1"]]);
    await servers.name("stays.test", [PUBLIC.web]);
    assertEquals(await lookUp(agent, "moves.test"), [PUBLIC.web]);
    assertEquals(await lookUp(agent, "moves.test"), ["10.0.0.1"]);
    assertEquals(await lookUp(agent, "stays.test"), [PUBLIC.web]);
    await assertRejects(() => lookUp(agent, "nobody.test"));
    const query = servers.events.find(({ name }) => name === "moves.test");
    assert(query);
  }
  assertEquals(await namespaces(), before);
});

Deno.test("a ground that is connected to the machine is refused", async () => {
  await using ground = await makeGround();
  const { agent, internet } = ground;
  await agent.ip(["link add leak type veth peer name leakpeer"]);
  await assertRejects(() => assertSealed(agent, internet, "wan0"), Error, "connected to something else");
});

async function namespaces(): Promise<string> {
  return await runTool(["ip", "netns", "list"]);
}

/** Whoever the server is. */
async function fetchFrom(agent: Namespace, url: string): Promise<WebAnswer> {
  const program = `console.log(await (await fetch("${url}")).text())`;
  const deno = [Deno.execPath(), "eval", "--unsafely-ignore-certificate-errors"];
  return JSON.parse(await agent.run(...deno, program)) as WebAnswer;
}

async function lookUp(agent: Namespace, name: string): Promise<string[]> {
  const nameServer = { ipAddr: PUBLIC.resolver, port: INTERNET_PORTS.dns };
  const program = `console.log(JSON.stringify(await Deno.resolveDns("${name}", "A", ${
    JSON.stringify({ nameServer })
  })))`;
  return JSON.parse(await agent.run(Deno.execPath(), "eval", program)) as string[];
}
