import type { Ground } from "../../security/ground/mod.ts";

/** How long it takes to make and remove a slot, in the agent's namespace of a ground. */
export async function benchSlots({ agent }: Ground): Promise<Record<string, number>> {
  const program = new URL("./slots_main.ts", import.meta.url).pathname;
  const output = await agent.run(Deno.execPath(), "run", "--quiet", "--allow-all", "--no-check", program);
  return JSON.parse(output.trim().split("\n").at(-1)!);
}
