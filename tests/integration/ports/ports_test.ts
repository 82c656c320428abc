/** The ports of sandboxes through the api's listener, its host agent and the guest's agent, with real virtual machines. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { openAddressFetch, parseAddress, Tunnel } from "@torpor/rpc";
import { startAllServices } from "../all_services.ts";
import { RawClient, send } from "./client.ts";
import { SERVER } from "./guest_server.ts";

const PORT = 8080;
const DOMAIN = "sandbox.localhost";

Deno.test("ports of sandboxes, with real virtual machines", async (t) => {
  await using all = await startAllServices();
  const { url, call, host } = all;
  const json = { memory_mb: 192, disk_size_mb: 256 };
  const id = (await call("POST", "/v1/sandboxes", json)).sandbox_id;
  const run = (command: string, sandbox = id) => host.run(sandbox, command);
  const serve = async (sandbox = id, address = "127.0.0.1") => {
    await run(
      `cat > /root/server.py <<'EOF'\n${SERVER}\nEOF\nsetsid python3 /root/server.py ${address} ${PORT} >/root/server.log 2>&1 &`,
      sandbox,
    );
    await run(
      `for i in $(seq 300); do (echo > /dev/tcp/127.0.0.1/${PORT}) 2>/dev/null && exit 0; sleep 0.1; done; cat /root/server.log; exit 1`,
      sandbox,
    );
  };
  const hostOf = (sandbox = id, port = PORT) => `${port}-${sandbox}.${DOMAIN}`;
  const get = (path: string, headers: Record<string, string> = {}) => send(url, { host: hostOf(), path, headers });
  await serve();

  await t.step("a request reaches a server that listens on loopback, by name and by header", async () => {
    const answer = await get("/x?y=1", { cookie: "c=1" });
    assertEquals([answer.status, await answer.text()], [200, "hello from /x"]);
    assertEquals(answer.headers["set-cookie"], ["a=1", "b=2"]);
    for (const prefix of ["torpor", "e2b"]) {
      const headers = { [`${prefix}-sandbox-id`]: id, [`${prefix}-sandbox-port`]: String(PORT) };
      assertEquals(await (await send(url, { host: "127.0.0.1", path: "/h", headers })).text(), "hello from /h");
    }
    assertEquals(await get("/healthz").then((answer) => answer.text()), "hello from /healthz");
  });

  await t.step("the sandbox sees the client's headers, who it is, and nothing that was for the way there", async () => {
    const answer = await get("/headers?a=%20b", {
      connection: "x-mine, close",
      "x-mine": "hop",
      "x-yours": "end",
      "x-forwarded-for": "6.6.6.6",
      "torpor-sandbox-port": "1",
      "e2b-traffic-access-token": "secret",
    });
    const seen = (await answer.text()).toLowerCase();
    assert(seen.includes("get /headers?a=%20b") && seen.includes("x-yours: end"), seen);
    assert(seen.includes(`host: ${hostOf()}`) && seen.includes(`x-forwarded-host: ${hostOf()}`), seen);
    assert(seen.includes("x-forwarded-for: 127.0.0.1\\n") && seen.includes("x-forwarded-proto: http"), seen);
    for (const absent of ["x-mine", "6.6.6.6", "secret", "torpor-sandbox"]) assert(!seen.includes(absent), seen);
  });

  await t.step("bodies of many bytes come through both ways as they are", async () => {
    const sent = new Uint8Array(3_000_000);
    for (let at = 0; at < sent.length; at += 65_536) crypto.getRandomValues(sent.subarray(at, at + 65_536));
    const echoed = await (await send(url, { host: hostOf(), method: "POST", path: "/echo", body: sent })).bytes();
    assert(echoed.length === sent.length && echoed.every((byte, index) => byte === sent[index]));
    const parts = (async function* () {
      for (let at = 0; at < sent.length; at += 100_000) yield sent.slice(at, at + 100_000);
    })();
    const sum = await (await send(url, { host: hostOf(), method: "PUT", path: "/sum", body: parts })).text();
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", sent));
    assertEquals(sum, hash.toHex());
    const began = performance.now();
    const big = await (await get("/big/16000000")).bytes();
    const seconds = (performance.now() - began) / 1000;
    assert(big.length === 16_000_000 && big.every((byte, index) => byte === index % 256));
    console.log(JSON.stringify({ down_mb_per_s: Math.round(16 / seconds * 10) / 10 }));
    const head = await send(url, { host: hostOf(), method: "HEAD", path: "/big/1000" });
    assertEquals([head.headers["content-length"], (await head.bytes()).length], ["1000", 0]);
  });

  await t.step("200 requests at once", async () => {
    const began = performance.now();
    const answers = await Promise.all(Array.from({ length: 200 }, async (_, number) => {
      const answer = await get(`/n${number}`);
      return [answer.status, await answer.text()];
    }));
    console.log(JSON.stringify({ requests: 200, seconds: Math.round(performance.now() - began) / 1000 }));
    assertEquals(answers, answers.map((_, number) => [200, `hello from /n${number}`]));
  });

  await t.step("events arrive as they happen, and a client that leaves ends the connection in the guest", async () => {
    const answer = await get("/events");
    let seen = "";
    for await (const part of answer.body) {
      seen += new TextDecoder().decode(part);
      if (seen.includes("data: 2")) break;
    }
    answer.body.destroy();
    while (!(await (await get("/log")).text()).includes("events cut"));
  });

  await t.step("readers that stall do not hold up commands or other requests", async () => {
    const stop = new AbortController();
    const stalled = await Promise.all(
      Array.from({ length: 10 }, () => send(url, { host: hostOf(), path: "/big/50000000", signal: stop.signal })),
    );
    assertEquals(await run("echo here"), "here");
    assertEquals(await (await get("/y")).text(), "hello from /y");
    stop.abort();
    for (const { body } of stalled) body.destroy();
  });

  await t.step("a WebSocket is bytes both ways; a refused one ends the connection", async () => {
    const upgrade = (path: string) =>
      `GET ${path} HTTP/1.1\r\nhost: ${hostOf()}\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\r\n`;
    {
      using client = new RawClient(url);
      client.write(upgrade("/ws") + "early");
      assertMatch(await client.until("\r\n\r\n"), /^HTTP\/1\.1 101 .*upgrade: websocket/is);
      assertEquals(await client.until("early"), "early");
      client.write("\x81\x02hi");
      assertEquals(await client.until("hi"), "\x81\x02hi");
    }
    while (!/ws (ended|cut)/.test(await (await get("/log")).text()));
    using refused = new RawClient(url);
    refused.write(upgrade("/deny"));
    assertMatch(await refused.until("denied"), /^HTTP\/1\.1 403 .*connection: close/is);
    refused.write("GET /v1/sandboxes HTTP/1.1\r\nhost: api\r\n\r\n");
    assertEquals(await refused.rest(), "");
  });

  await t.step("a connection of any protocol, for an API key", async () => {
    using http = openAddressFetch(parseAddress(url));
    const open = async (port: number, key = all.apiKey) =>
      await Tunnel.open(http.fetch, `${url}/v1/sandboxes/${id}/ports/${port}`, {
        headers: { authorization: `Bearer ${key}` },
        signal: new AbortController().signal,
      });
    const tunnel = await open(PORT);
    assert(tunnel instanceof Tunnel);
    await tunnel.write(new TextEncoder().encode("GET /raw HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"));
    await tunnel.end();
    let seen = "";
    for (let data = await tunnel.read(); data; data = await tunnel.read()) seen += new TextDecoder().decode(data);
    assertMatch(seen, /^HTTP\/1\.1 200 .*hello from \/raw$/s);
    tunnel.close();
    for (const [port, key, status] of [[9, undefined, 502], [PORT, "wrong", 401]] as const) {
      const refused = await open(port, key);
      assert(refused instanceof Response);
      assertEquals(refused.status, status);
      await refused.body?.cancel();
    }
  });

  await t.step("a closed port and an unknown sandbox are 502, as E2B's clients expect", async () => {
    const closed = await send(url, { host: hostOf(id, 9), path: "/" });
    assertEquals([closed.status, JSON.parse(await closed.text())], [502, {
      sandboxId: id,
      message: "The sandbox is running but port is not open",
      port: 9,
      code: 502,
    }]);
    const page = await send(url, { host: hostOf(id, 9), headers: { accept: "text/html,*/*" } });
    assertMatch(await page.text(), /<!doctype html>.*port 9/is);
    const unknown = await send(url, { host: hostOf("a".repeat(20)) });
    assertEquals([unknown.status, JSON.parse(await unknown.text()).message], [502, "The sandbox was not found"]);
    using upgrade = new RawClient(url);
    upgrade.write(`GET / HTTP/1.1\r\nhost: ${hostOf(id, 9)}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n`);
    assertMatch(await upgrade.rest(), /^HTTP\/1\.1 502 .*"code":502/is);
  });

  await t.step("hostile requests and answers get nowhere", async () => {
    const refuses = async (request: string) => {
      using client = new RawClient(url);
      client.write(request);
      const answer = await client.rest();
      assertMatch(answer, /^HTTP\/1\.1 400 /, request);
      assertEquals(answer.match(/HTTP\/1\.1/g)?.length, 1, request);
    };
    const before = (await (await get("/log")).text()).length;
    const head = `POST /echo HTTP/1.1\r\nhost: ${hostOf()}\r\n`;
    await refuses(
      `${head}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /log HTTP/1.1\r\nhost: x\r\n\r\n`,
    );
    await refuses(`${head}content-length: 5\r\ncontent-length: 6\r\n\r\nhello!`);
    await refuses(`${head}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n`);
    await refuses(`${head}transfer-encoding : chunked\r\n\r\n0\r\n\r\n`);
    await refuses(`${head}host: ${hostOf(id, 9)}\r\ncontent-length: 0\r\n\r\n`);
    await refuses(`GET http://elsewhere/ HTTP/1.1\r\nhost: ${hostOf()}\r\n\r\n`);
    await refuses(`GET / HTTP/1.1\r\nhost: 0-${id}.${DOMAIN}\r\nconnection: close\r\n\r\n`);
    await refuses(`GET / HTTP/1.1\r\nhost: api\r\ntorpor-sandbox-id: ${id}\r\nconnection: close\r\n\r\n`);
    await refuses(`${head}connection: upgrade\r\nupgrade: websocket\r\ncontent-length: 5\r\n\r\nhello`);
    assertEquals((await (await get("/log")).text()).length, before);
    assertEquals((await get("/junk")).status, 502);
    assertEquals(await (await get("/split")).text(), "ok");
    // The channel to the guest's agent is no port.
    for (const port of [1, 22, 111, 49983]) assertEquals((await send(url, { host: hostOf(id, port) })).status, 502);
  });

  await t.step("a private sandbox wants its token, which only its owner gets", async () => {
    const made = await call("POST", "/v1/sandboxes", { ...json, network: { allow_public_traffic: false } });
    const token = made.traffic_access_token;
    assertMatch(token, /^[0-9a-f]{64}$/);
    const shown = await call("GET", `/v1/sandboxes/${made.sandbox_id}`);
    assertEquals([shown.network.allow_public_traffic, JSON.stringify(shown).includes(token)], [false, false]);
    const status = async (headers: Record<string, string>) => {
      const answer = await send(url, { host: hostOf(made.sandbox_id, 9), headers });
      return [answer.status, JSON.parse(await answer.text()).code];
    };
    assertEquals(await status({}), [403, 403]);
    assertEquals(await status({ "torpor-traffic-access-token": token.replace(/.$/, "x") }), [403, 403]);
    for (const prefix of ["e2b", "torpor"]) {
      assertEquals(await status({ [`${prefix}-traffic-access-token`]: token }), [502, 502]);
    }
    await call("POST", `/v1/sandboxes/${made.sandbox_id}/pause`);
    const resumed = await call("POST", `/v1/sandboxes/${made.sandbox_id}/resume`);
    assertEquals(resumed.traffic_access_token, token);
    await call("DELETE", `/v1/sandboxes/${made.sandbox_id}`);
  });

  await t.step("a pause waits for the request under way, and ends WebSockets", async () => {
    using socket = new RawClient(url);
    socket.write(`GET /ws HTTP/1.1\r\nhost: ${hostOf()}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n`);
    await socket.until("\r\n\r\n");
    const slow = get("/slow");
    while (!(await (await get("/log")).text()).includes("slow begun"));
    const pausing = call("POST", `/v1/sandboxes/${id}/pause`);
    // It ends at once: from here on nothing new is let in, and the pause waits for the slow one.
    await socket.rest();
    assertEquals((await send(url, { host: hostOf() })).status, 409);
    assertEquals(await (await slow).text(), "slow answer");
    await pausing;
    const paused = await send(url, { host: hostOf() });
    assertEquals([paused.status, JSON.parse(await paused.text()).message], [502, "The sandbox was not found"]);
    await call("DELETE", `/v1/sandboxes/${id}`);
  });

  await t.step("50 first requests to a paused sandbox are held, resume it once, and are answered", async () => {
    const made = (await call("POST", "/v1/sandboxes", { ...json, auto_resume: true })).sandbox_id;
    await serve(made, "0.0.0.0");
    await call("POST", `/v1/sandboxes/${made}/pause`);
    const began = performance.now();
    const answers = await Promise.all(Array.from({ length: 50 }, async (_, number) => {
      const answer = await send(url, { host: hostOf(made), path: `/n${number}` });
      return [answer.status, await answer.text()];
    }));
    console.log(JSON.stringify({ woken_requests: 50, seconds: Math.round(performance.now() - began) / 1000 }));
    assertEquals(answers, answers.map((_, number) => [200, `hello from /n${number}`]));
    const { operations } = await call("GET", `/v1/sandboxes/${made}/operations`);
    assertEquals(operations.map(({ kind }: { kind: string }) => kind), ["resume", "pause", "create"]);
    await call("DELETE", `/v1/sandboxes/${made}`);
  });
});
