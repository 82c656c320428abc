import { assertEquals, assertRejects } from "@std/assert";
import { NameResolver } from "./resolver.ts";
import { Refusal } from "./refusal.ts";
import { DnsServer } from "./testing/dns_server.ts";

Deno.test("a resolver that does not know a name, or is not there, is followed by the next", async () => {
  await using empty = await DnsServer.start({});
  await using server = await DnsServer.start({ "a.example.com": { A: ["1.2.3.4", "1.2.3.5"] } });
  // Port 1 of loopback: nobody answers, and says so.
  const resolver = new NameResolver(["127.0.0.1:1", empty.address, server.address]);
  assertEquals([...await resolver.resolve("a.example.com")].sort(), ["1.2.3.4", "1.2.3.5"]);
  // The one that has answered is asked first from now on.
  server.zone = { "b.example.com": { A: ["1.2.3.4"] } };
  assertEquals(await resolver.resolve("b.example.com"), ["1.2.3.4"]);
  assertEquals(empty.queries, ["a.example.com A", "a.example.com AAAA"]);
});

Deno.test("IPv6 is asked for where there is no IPv4, and mapped addresses are IPv4", async () => {
  await using server = await DnsServer.start({
    "six.example.com": { AAAA: ["2606:4700:0:0:0:0:0:1"] },
    "mapped.example.com": { AAAA: ["0:0:0:0:0:ffff:a00:1"] },
    "both.example.com": { A: ["1.2.3.4"], AAAA: ["2606:4700:0:0:0:0:0:1"] },
  });
  const resolver = new NameResolver([server.address]);
  assertEquals(await resolver.resolve("six.example.com"), ["2606:4700::1"]);
  assertEquals(await resolver.resolve("mapped.example.com"), ["10.0.0.1"]);
  assertEquals(await resolver.resolve("both.example.com"), ["1.2.3.4"]);
});

Deno.test("of a name with many addresses some are taken", async () => {
  const addresses = Array.from({ length: 25 }, (_, index) => `1.2.3.${index}`);
  await using server = await DnsServer.start({ "many.example.com": { A: addresses } });
  const resolved = await new NameResolver([server.address]).resolve("many.example.com");
  assertEquals([resolved.length, resolved.filter((address) => !addresses.includes(address))], [16, []]);
});

Deno.test("those who ask at the same time share one query, and its failure", async () => {
  await using server = await DnsServer.start({});
  const resolver = new NameResolver([server.address]);
  const asked = [resolver.resolve("a.example.com"), resolver.resolve("a.example.com")];
  for (const each of asked) assertEquals((await assertRejects(() => each, Refusal)).reason, "not_resolved");
  assertEquals(server.queries, ["a.example.com A", "a.example.com AAAA"]);
});
