import { assertEquals } from "@std/assert";
import { networkOption } from "./network_options.ts";

Deno.test("without options nothing is said about the network", () => {
  assertEquals(networkOption({}), undefined);
  assertEquals(networkOption({ "no-internet": false }), undefined);
});

Deno.test("lists are separated by commas", () => {
  assertEquals(networkOption({ "no-internet": true, "allow-out": "1.1.1.1, *.example.com," }), {
    allowInternetAccess: false,
    allowOut: ["1.1.1.1", "*.example.com"],
    denyOut: [],
  });
  assertEquals(networkOption({ "deny-out": "10.0.0.0/8,::/0" }), {
    allowInternetAccess: true,
    allowOut: [],
    denyOut: ["10.0.0.0/8", "::/0"],
  });
});
