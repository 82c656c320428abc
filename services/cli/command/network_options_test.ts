import { assertEquals } from "@std/assert";
import { runCommand } from "citty";
import { defineAction } from "./define.ts";
import { NETWORK_OPTIONS, networkOption } from "./network_options.ts";

/** What a command line comes to. */
async function parsed(...rawArgs: string[]): Promise<ReturnType<typeof networkOption>> {
  let option: ReturnType<typeof networkOption>;
  const command = defineAction({
    name: "test",
    description: "",
    args: NETWORK_OPTIONS,
    run: ({ args }) => Promise.resolve(void (option = networkOption(args))),
  });
  await runCommand(command, { rawArgs });
  return option;
}

Deno.test("without options nothing is said about the network", async () => {
  assertEquals(await parsed(), undefined);
});

Deno.test("--no-internet leaves what is allowed; lists are separated by commas", async () => {
  assertEquals(await parsed("--no-internet", "--allow-out", "1.1.1.1, *.example.com,"), {
    allowInternetAccess: false,
    allowOut: ["1.1.1.1", "*.example.com"],
    denyOut: [],
  });
  assertEquals(await parsed("--deny-out=10.0.0.0/8,::/0"), {
    allowInternetAccess: true,
    allowOut: [],
    denyOut: ["10.0.0.0/8", "::/0"],
  });
});
