import { fromFileUrl } from "@std/path";
import { RESERVED_IPV4, RESERVED_IPV6 } from "@torpor/network";
import type { ProcessConfig } from "./control_messages.ts";

/**
 * Names the code of the proxy, its configuration and the addresses that it refuses: a process that an earlier agent has started is
 * kept when it would be started in the same way now.
 */
export async function fingerprint(config: Omit<ProcessConfig, "fingerprint">): Promise<string> {
  const folder = fromFileUrl(new URL(".", import.meta.url));
  const names: string[] = [];
  for await (const { name, isFile } of Deno.readDir(folder)) {
    if (isFile && name.endsWith(".ts") && !name.endsWith("_test.ts")) names.push(name);
  }
  const sources = await Promise.all(names.sort().map((name) => Deno.readTextFile(`${folder}/${name}`)));
  const text = JSON.stringify([Deno.version.deno, config, RESERVED_IPV4, RESERVED_IPV6, names, sources]);
  return new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text))).toHex();
}
