import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { runCommand } from "citty";
import { TorporError } from "@torpor/errors";
import { defineAction, integerOption } from "./define.ts";
import { exitCodeOf, UsageError } from "./exit_codes.ts";

function recorder(rest?: string) {
  const seen: { id: string; flag: boolean; rest: string[] }[] = [];
  const command = defineAction({
    name: "x",
    description: "",
    args: {
      id: { type: "positional", required: true },
      someFlag: { type: "boolean", alias: "f" },
    },
    rest,
    run: async ({ args, rest }) => {
      seen.push({ id: args.id, flag: Boolean(args.someFlag), rest });
    },
  });
  return { seen, run: (rawArgs: string[]) => runCommand(command, { rawArgs }) };
}

Deno.test("what follows -- belongs to the command, options and all", async () => {
  const { seen, run } = recorder("CMD");
  await run(["one", "-f", "--", "ls", "-l", "--some-flag", "--", "x"]);
  await run(["one", "--some-flag"]);
  assertEquals(seen, [
    { id: "one", flag: true, rest: ["ls", "-l", "--some-flag", "--", "x"] },
    { id: "one", flag: true, rest: [] },
  ]);
});

Deno.test("options and arguments that a command does not know are refused", async () => {
  const { seen, run } = recorder();
  await assertRejects(() => run(["one", "--typo"]), UsageError, "--typo");
  await assertRejects(() => run(["one", "-l"]), UsageError, "-l");
  await assertRejects(() => run(["one", "two"]), UsageError, "two");
  assertEquals(seen, []);
});

Deno.test("-- does not lend its arguments to the named ones", async () => {
  const { run } = recorder("CMD");
  await assertRejects(() => run(["--", "ls"]), UsageError);
});

Deno.test("integers are checked before anything is sent", () => {
  assertEquals(integerOption(undefined, "--x", 1, 5), undefined);
  assertEquals(integerOption("5", "--x", 1, 5), 5);
  for (const text of ["0", "6", "-1", "1.5", "1e1", "", "0x2", " 2", "99999999999999999999"]) {
    assertThrows(() => integerOption(text, "--x", 1, 5), UsageError, "--x");
  }
});

Deno.test("exit codes follow from error codes", () => {
  const codes = [
    "sandbox_not_found",
    "conflict",
    "invalid_argument",
    "unavailable",
    "no_capacity",
    "internal",
  ] as const;
  assertEquals(codes.map((code) => exitCodeOf(new TorporError(code, ""))), [3, 4, 2, 5, 5, 1]);
  assertEquals(exitCodeOf(new UsageError("")), 2);
  assertEquals(exitCodeOf(new Error("")), 1);
});
