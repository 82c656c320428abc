import { assertEquals } from "@std/assert";
import { fromFileUrl, join } from "@std/path";

const HANGS = `
Deno.test("hangs", () => new Promise(() => setInterval(() => {}, 1000)));
Deno.test({ name: "hangs, too", fn: () => new Promise(() => setInterval(() => {}, 1000)) });
Deno.test("spins", { sanitizeOps: false }, () => { for (;;); });
Deno.test({ name: "has its own", timeout: 60_000, fn: () => new Promise((done) => setTimeout(done, 1500)) });
Deno.test("is quick", () => {});
Deno.test(function named() {});
`;

Deno.test("a test that hangs fails, the others go on", async () => {
  const directory = await Deno.makeTempDir();
  const file = join(directory, "a_test.ts");
  await Deno.writeTextFile(file, HANGS);
  const preload = fromFileUrl(new URL("test_deadline.ts", import.meta.url));
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["test", "--allow-all", "--no-check", "--no-config", `--preload=${preload}`, file],
    env: { TORPOR_TEST_DEADLINE_MS: "500", NO_COLOR: "1" },
  }).output();
  const results = new TextDecoder().decode(stdout).matchAll(/^(.+) \.\.\. (ok|FAILED)/gm);
  assertEquals([...results].map(([, name, result]) => `${name}: ${result}`), [
    "hangs: FAILED",
    "hangs, too: FAILED",
    "spins: FAILED",
    "has its own: ok",
    "is quick: ok",
    "named: ok",
  ]);
  await Deno.remove(directory, { recursive: true });
});
