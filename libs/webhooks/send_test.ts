import { assert, assertEquals, assertRejects } from "@std/assert";
import { Webhook } from "standardwebhooks";
import { newWebhookSecret } from "./secret.ts";
import { send, type SendOptions } from "./send.ts";
import { Receiver, stall } from "./testing/receiver.ts";
import { testCertificate } from "@torpor/testing/certificate";

const MESSAGE = { id: "evt_x_1", type: "sandbox.running", occurredAt: new Date(), data: { sandbox_id: "x" } };
const SECRET = newWebhookSecret();
const LOOPBACK: SendOptions = { allowPrivate: true, lookup: () => Promise.resolve(["127.0.0.1"]) };

function sendTo(url: string, options: SendOptions = LOOPBACK, signal = new AbortController().signal) {
  return send(new URL(url), MESSAGE, [SECRET], options, signal);
}

Deno.test("an event arrives signed, with the receiver's name as its host", async () => {
  await using receiver = Receiver.start();
  const result = await sendTo(`http://hook.example:${receiver.port}/a?b=1`);
  assertEquals([result.error, result.answer?.status], [undefined, 204]);
  const [{ headers, body, path }] = receiver.received as [typeof receiver.received[0]];
  assertEquals([headers.get("host"), path], [`hook.example:${receiver.port}`, "/a"]);
  const verified = new Webhook(SECRET).verify(body, Object.fromEntries(headers)) as { type: string };
  assertEquals([verified.type, headers.get("webhook-id")], ["sandbox.running", MESSAGE.id]);
});

Deno.test("nothing is sent to an address that is not public, however a name leads to it", async () => {
  await using receiver = Receiver.start();
  const rules = { allowPrivate: false };
  const refusedBy = async (url: string, addresses: string[]) =>
    (await sendTo(url, { ...rules, lookup: () => Promise.resolve(addresses) })).error;
  const url = `http://hook.example:${receiver.port}/`;
  assertEquals(await refusedBy(url, ["127.0.0.1"]), "address_not_public");
  assertEquals(await refusedBy(url, ["8.8.8.8", "127.0.0.1"]), "address_not_public");
  assertEquals(await refusedBy(url, ["::ffff:127.0.0.1"]), "address_not_public");
  assertEquals(await refusedBy(receiver.url, ["8.8.8.8"]), "address_not_public");
  // This machine's own address in its network, whatever it is.
  for (const { address } of Deno.networkInterfaces()) {
    assertEquals(await refusedBy(url, [address]), "address_not_public");
  }
  assertEquals(await refusedBy(url, []), "name_not_resolved");
  const fails = { ...rules, lookup: () => Promise.reject(new Error("no such name")) };
  assertEquals((await sendTo(url, fails)).error, "name_not_resolved");
  assertEquals(receiver.received, []);
});

Deno.test("a name is resolved once, and the connection goes to the address that was checked", async () => {
  await using receiver = Receiver.start();
  let asked = 0;
  // Rebinding: public when it is checked, this machine when it is asked again.
  const rebinding = () => Promise.resolve([++asked === 1 ? "192.0.2.1" : "127.0.0.1"]);
  const url = `http://hook.example:${receiver.port}/`;
  const result = await sendTo(url, { allowPrivate: true, lookup: rebinding, timeoutMs: 300 });
  assert(["timed_out", "connection_failed"].includes(result.error!), result.error);
  assertEquals([asked, receiver.received.length], [1, 0]);
});

Deno.test("the next address is tried when one cannot be connected to", async () => {
  await using receiver = Receiver.start();
  const lookup = () => Promise.resolve(["127.0.0.2", "127.0.0.1"]);
  const result = await sendTo(`http://hook.example:${receiver.port}/`, { allowPrivate: true, lookup });
  assertEquals([result.error, receiver.received.length], [undefined, 1]);
});

Deno.test("the certificate must be valid for the receiver's name, not for its address", async () => {
  const { cert, key } = await testCertificate("hook.example");
  await using receiver = Receiver.start(undefined, { tls: { cert, key } });
  const trusting = { ...LOOPBACK, caCertificates: [cert] };
  assertEquals((await sendTo(`https://hook.example:${receiver.port}/`, trusting)).error, undefined);
  assertEquals((await sendTo(`https://other.example:${receiver.port}/`, trusting)).error, "tls_failed");
  assertEquals((await sendTo(`https://hook.example:${receiver.port}/`)).error, "tls_failed");
  assertEquals(receiver.received.length, 1);
});

Deno.test("redirects are not followed", async () => {
  await using inside = Receiver.start();
  await using receiver = Receiver.start(() => new Response(null, { status: 307, headers: { location: inside.url } }));
  const result = await sendTo(receiver.url);
  assertEquals([result.error, result.answer?.status, inside.received.length], ["redirected", 307, 0]);
});

Deno.test("a receiver that stalls, breaks off or cannot be reached is a result", async () => {
  {
    await using receiver = Receiver.start(stall);
    assertEquals((await sendTo(receiver.url, { ...LOOPBACK, timeoutMs: 100 })).error, "timed_out");
  }
  const never = { ...LOOPBACK, lookup: () => new Promise<string[]>(() => {}), timeoutMs: 50 };
  assertEquals((await sendTo("http://hook.example/", never)).error, "timed_out");

  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const url = `http://127.0.0.1:${listener.addr.port}/`;
  for (const begin of ["", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", "not http\r\n\r\n"]) {
    const dies = listener.accept().then(async (connection) => {
      await connection.read(new Uint8Array(10));
      await connection.write(new TextEncoder().encode(begin));
      connection.close();
    });
    assertEquals((await sendTo(url)).error, "connection_failed", begin);
    await dies;
  }
  listener.close();
  assertEquals((await sendTo(url)).error, "connection_failed");
});

Deno.test("of a long answer as much is read as is kept", async () => {
  let pulled = 0;
  const endless = () =>
    new Response(
      new ReadableStream<Uint8Array>({
        pull(controller) {
          pulled++;
          controller.enqueue(new Uint8Array(65_536).fill(97));
        },
      }),
      { status: 500, headers: { "retry-after": "7" } },
    );
  await using receiver = Receiver.start(endless);
  const { error, answer } = await sendTo(receiver.url);
  assertEquals([error, answer?.status, answer?.body, answer?.retryAfterMs], ["refused", 500, "a".repeat(1024), 7000]);
  assert(pulled < 1000, `${pulled}`);
});

Deno.test("who stops the sender is told so, whatever the receiver does", async () => {
  await using receiver = Receiver.start(stall);
  const stop = new AbortController();
  const sent = sendTo(receiver.url, LOOPBACK, stop.signal);
  await receiver.arrived(1);
  const reason = new Error("stopped");
  stop.abort(reason);
  assertEquals(await assertRejects(() => sent), reason);
});
