import { fromFileUrl } from "@std/path";

const TEST = fromFileUrl(new URL("../../property/chains_test.ts", import.meta.url));

/** Runs the property test of random chains, which prints how many it has checked and how many had a wrong byte. */
export async function benchChains(): Promise<Record<string, number>> {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["test", "--allow-all", "--no-check", TEST],
    stderr: "inherit",
  }).output();
  const text = new TextDecoder().decode(stdout);
  const figure = (name: string) => {
    const found = text.match(new RegExp(`${name} (\\d+)`));
    if (!found) throw new Error(`the chains did not print ${name}:\n${text.slice(-2000)}`);
    return Number(found[1]);
  };
  return { chains_checked: figure("chains_checked"), chains_wrong: figure("chains_wrong") };
}
