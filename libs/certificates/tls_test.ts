/** The TLS of libs/rpc with certificates of an authority: real connections on the loopback. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { HostAgentService } from "@torpor/proto/hostagent";
import {
  type Address,
  Credentials,
  hostPeer,
  isControlPeer,
  openAddressFetch,
  openClient,
  serve,
  type ServeOptions,
  TLS_CALLER,
  type TlsCaller,
} from "@torpor/rpc";
import { Authority, createAuthority, createKey, readRequest, requestFor } from "./mod.ts";

const HOST_ID = newId();
const LISTEN: Address = { transport: "tls", hostname: "127.0.0.1", port: 0, peer: "" };
const ours = await Authority.open(await createAuthority());

async function credentialsOf(peer: string, authority = ours, lifeMs = 60_000): Promise<Credentials> {
  const key = await createKey();
  const { publicKey } = await readRequest(await requestFor(key));
  return new Credentials({
    key,
    certificate: await authority.issue(peer, publicKey, lifeMs),
    authority: authority.certificate,
  });
}

function admit({ peer }: TlsCaller): void {
  if (!isControlPeer(peer)) throw new TorporError("permission_denied", `not for "${peer}"`);
}

/** A host agent's listener that answers GetSandbox with its caller's name, and what `http` adds. */
async function serveHost(options: Partial<ServeOptions> & { credentials?: Credentials } = {}) {
  const credentials = options.credentials ?? await credentialsOf(hostPeer(HOST_ID));
  const service = await serve({
    listen: LISTEN,
    tls: { credentials, admit },
    token: "never asked for",
    routes: (router) =>
      router.service(HostAgentService, {
        getSandbox: (_request, context) => ({ sandbox: { sandboxId: context.values.get(TLS_CALLER)?.peer } }),
      }),
    ...options,
  });
  const { port } = service.address as Address & { transport: "tls" };
  const at = (peer: string): Address => ({ transport: "tls", hostname: "127.0.0.1", port, peer });
  return { credentials, port, at, [Symbol.asyncDispose]: () => service[Symbol.asyncDispose]() };
}

async function callerSeen(address: Address, credentials: Credentials): Promise<string> {
  using client = openClient(HostAgentService, { address, credentials, token: "secret" });
  return (await client.getSandbox({ sandboxId: newId() })).sandbox!.sandboxId;
}

Deno.test("both sides know each other by name, and the token is not sent", async () => {
  let authorization: string | null = "none seen";
  await using host = await serveHost({
    http: (request) => {
      authorization = request.headers.get("authorization");
      return new Response("ok");
    },
  });
  assertEquals(await callerSeen(host.at(hostPeer(HOST_ID)), await credentialsOf("api")), "api");
  using http = openAddressFetch(host.at(hostPeer(HOST_ID)), await credentialsOf("reconciler"));
  const response = await http.fetch(`${http.baseUrl}/x`, { headers: { authorization: "Bearer secret" } });
  assertEquals([await response.text(), authorization], ["ok", null]);
});

Deno.test("a server that is somebody else, or of another deployment, is not spoken to", async () => {
  await using host = await serveHost();
  const api = await credentialsOf("api");
  for (const peer of ["scheduler", hostPeer(newId())]) {
    assertEquals((await assertRejects(() => callerSeen(host.at(peer), api), TorporError)).code, "unavailable");
  }
  const foreign = await Authority.open(await createAuthority());
  const stranger = await credentialsOf("api", foreign);
  const error = await assertRejects(() => callerSeen(host.at(hostPeer(HOST_ID)), stranger), TorporError);
  assertEquals(error.code, "unavailable");
});

Deno.test("a caller without a certificate, of another deployment, of the wrong role or out of date is refused", async () => {
  await using host = await serveHost();
  const address = host.at(hostPeer(HOST_ID));
  const foreign = await credentialsOf("api", await Authority.open(await createAuthority()));
  const current = { ...foreign.current, authority: ours.certificate };
  const expired = await credentialsOf("api", ours, 1);
  await new Promise((resolve) => setTimeout(resolve, 1_100)); // Certificates count in seconds.
  const nobody = new Credentials({ certificate: "", key: "", authority: ours.certificate });
  for (const caller of [new Credentials(current), await credentialsOf(hostPeer(newId())), expired, nobody]) {
    const error = await assertRejects(() => callerSeen(address, caller), TorporError);
    assertEquals(error.code, "permission_denied");
  }
});

Deno.test("a certificate without its key is refused", async () => {
  await using host = await serveHost();
  const [api, thief] = [await credentialsOf("api"), await credentialsOf(hostPeer(newId()))];
  // A key file that claims the api's public key but holds another secret: libraries that check that they fit are content.
  const key = mixedKey(thief.current.key, api.current.key);
  const status = async (keyPem: string) => await openssl(host.port, { ...api.current, key: keyPem });
  assert((await status(api.current.key)).includes("200 OK"));
  const refused = await status(key);
  assert(!refused.includes("200 OK"), refused);
});

/** PKCS #8 of P-256: the secret's 32 bytes lie 36 into it, the public point's 65 at its end. */
function mixedKey(secretOf: string, pointOf: string): string {
  const der = (pem: string) => Uint8Array.fromBase64(pem.replace(/-----[^-]+-----|\s/g, ""));
  const mixed = der(pointOf);
  mixed.set(der(secretOf).subarray(36, 68), 36);
  return `-----BEGIN PRIVATE KEY-----\n${mixed.toBase64().replace(/.{64}/g, "$&\n")}\n-----END PRIVATE KEY-----\n`;
}

async function openssl(port: number, { certificate, key }: { certificate: string; key: string }): Promise<string> {
  const directory = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${directory}/c.pem`, certificate);
    await Deno.writeTextFile(`${directory}/k.pem`, key);
    const script = `printf 'GET /healthz HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\n\\r\\n' |
      timeout 20 openssl s_client -ign_eof -connect 127.0.0.1:${port} -cert c.pem -key k.pem 2>&1`;
    const { stdout } = await new Deno.Command("sh", { args: ["-c", script], cwd: directory }).output();
    return new TextDecoder().decode(stdout);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("certificates of both sides are replaced while a call is under way, which goes on", async () => {
  const gate = Promise.withResolvers<void>();
  await using host = await serveHost({
    http: () =>
      new Response(
        new ReadableStream<Uint8Array>({
          async start(controller) {
            controller.enqueue(new TextEncoder().encode("begun "));
            await gate.promise;
            controller.enqueue(new TextEncoder().encode("ended"));
            controller.close();
          },
        }),
      ),
  });
  const client = await credentialsOf("api");
  using http = openAddressFetch(host.at(hostPeer(HOST_ID)), client);
  const response = await http.fetch(`${http.baseUrl}/x`);
  const reader = response.body!.getReader();
  assertEquals(new TextDecoder().decode((await reader.read()).value), "begun ");
  host.credentials.replace((await credentialsOf(hostPeer(HOST_ID))).current);
  client.replace((await credentialsOf("reconciler")).current);
  assertEquals(await callerSeen(host.at(hostPeer(HOST_ID)), client), "reconciler");
  gate.resolve();
  assertEquals(new TextDecoder().decode((await reader.read()).value), "ended");
  assertEquals((await reader.read()).done, true);
});

Deno.test("an empty answer leaves the connection in order", async () => {
  await using host = await serveHost({
    routes: (router) => router.service(HostAgentService, { destroySandbox: () => ({}) }),
  });
  const credentials = await credentialsOf("api");
  using client = openClient(HostAgentService, { address: host.at(hostPeer(HOST_ID)), credentials, timeoutMs: 5_000 });
  for (let i = 0; i < 3; i++) await client.destroySandbox({ sandboxId: newId() });
});

Deno.test("bodies stream both ways without piling up, and an abort reaches the other side", async () => {
  const CHUNK = new Uint8Array(65_536);
  let sent = 0;
  const ended = Promise.withResolvers<void>();
  await using host = await serveHost({
    http: async (request) => {
      if (request.method === "PUT") {
        let size = 0;
        // Slower than it comes: the other side is stopped, and let go on, many times.
        for await (const chunk of request.body!) {
          size += chunk.length;
          await new Promise((resolve) => setTimeout(resolve, 1));
        }
        return new Response(String(size));
      }
      return new Response(
        new ReadableStream<Uint8Array>({
          pull: (controller) => (sent += CHUNK.length, controller.enqueue(CHUNK)),
          cancel: () => ended.resolve(),
        }),
      );
    },
  });
  using http = openAddressFetch(host.at(hostPeer(HOST_ID)), await credentialsOf("api"));
  const upload = ReadableStream.from((function* () {
    for (let i = 0; i < 500; i++) yield CHUNK;
  })());
  const put = await http.fetch(`${http.baseUrl}/x`, { method: "PUT", body: upload });
  assertEquals(await put.text(), String(500 * CHUNK.length));

  const abort = new AbortController();
  const endless = await http.fetch(`${http.baseUrl}/x`, { signal: abort.signal });
  const reader = endless.body!.getReader();
  await reader.read();
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert(sent < 32 * 1024 * 1024, `${sent} bytes were made for a reader that does not read`);
  abort.abort();
  await ended.promise;
  await assertRejects(async () => {
    while (!(await reader.read()).done);
  });
});

Deno.test("a reader that stalls does not hold a service that stops", async () => {
  const chunk = new Uint8Array(65_536);
  const endless = () => new ReadableStream({ pull: (controller) => controller.enqueue(chunk) });
  const host = await serveHost({ graceMs: 50, http: () => new Response(endless()) });
  using http = openAddressFetch(host.at(hostPeer(HOST_ID)), await credentialsOf("api"));
  const { body } = await http.fetch(`${http.baseUrl}/`);
  const reader = body!.getReader();
  await reader.read();
  await host[Symbol.asyncDispose]();
  await reader.cancel();
});
