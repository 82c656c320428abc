import { assert, assertEquals } from "@std/assert";
import { helpText } from "./help.ts";
import { commands, root } from "./root.ts";

const plain = (_style: string, text: string) => text;

Deno.test("every command is in the program's help, and has help of its own", async () => {
  const text = await helpText(root, ["torpor"], plain);
  for (const [name, load] of Object.entries(commands)) {
    assert(new RegExp(`^  ${name} +\\S`, "m").test(text), name);
    const own = await helpText(await load(), ["torpor", name], plain);
    assert(own.includes(`./torpor ${name}`), own);
    assert(/^ {2}(--json|ls) /m.test(own), `${name} has --json, or commands below it`);
  }
});

Deno.test("a help text tells arguments, options with their values, and exit codes", async () => {
  const text = await helpText(await commands.exec!(), ["torpor", "exec"], plain);
  assert(text.includes("./torpor exec ID [OPTIONS] -- CMD…"), text);
  assert(/^ {2}-i, --interactive {2}/m.test(text));
  assert(/^ {2}--timeout TIMEOUT {2}/m.test(text));
  assertEquals(text.split("\n").filter((line) => line.startsWith("Exit codes:")).length, 1);
});
