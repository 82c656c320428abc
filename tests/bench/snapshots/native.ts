/** Runs the native benchmark (ffi/tests/bench.c), which prints "name: value" lines. */
export async function benchNative(buildDirectory: string): Promise<Record<string, number>> {
  const { success, stdout } = await new Deno.Command(`${buildDirectory}/tests/bench`, {
    args: ["figures"],
    env: { TORPOR_TEST_BUILD: buildDirectory },
    stderr: "inherit",
  }).output();
  if (!success) throw new Error("the native benchmark failed");
  const figures = [...new TextDecoder().decode(stdout).matchAll(/^(\w+): ([\d.]+)$/gm)];
  return Object.fromEntries(figures.map(([, name, value]) => [name!, Number(value)]));
}
