import { assertEquals } from "@std/assert";

// The variable is read once per process, so each value needs one of its own.
async function scaled(scale: string | undefined): Promise<{ code: number; output: string }> {
  const program = `import { scaledTimeoutMs } from "@torpor/config"; console.log(scaledTimeoutMs(1500));`;
  const { code, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "--frozen", "--ext=ts", program],
    cwd: new URL(".", import.meta.url).pathname,
    env: { TORPOR_TIMEOUT_SCALE: scale ?? "", NO_COLOR: "1" },
    stderr: "null",
  }).output();
  return { code, output: new TextDecoder().decode(stdout).trim() };
}

Deno.test("deadlines are multiplied by TORPOR_TIMEOUT_SCALE, and a senseless one is refused", async () => {
  const results = await Promise.all([scaled(undefined), scaled("2.5"), scaled("0.1"), scaled("fast")]);
  assertEquals(results, [{ code: 0, output: "1500" }, { code: 0, output: "3750" }, { code: 1, output: "" }, {
    code: 1,
    output: "",
  }]);
});
