/**
 * Makes `build/`: postgres.js as npm has it, with the changes of repairs.ts. Does nothing when it is there already.
 *
 *     deno run --allow-read --allow-write --allow-run --allow-env libs/postgres/repair.ts
 */
import { exists } from "@std/fs";
import "postgres";
import { REPAIRS, VERSION } from "./repairs.ts";

const BUILD = new URL("./build/", import.meta.url).pathname;

/** The sources of the package that the import above has brought into Deno's cache. */
async function packageSources(): Promise<string> {
  const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["info", "--json"], stderr: "inherit" }).output();
  const { npmCache } = JSON.parse(new TextDecoder().decode(stdout)) as { npmCache: string };
  for await (const { name } of Deno.readDir(npmCache)) {
    const path = `${npmCache}/${name}/postgres/${VERSION}/src`;
    if (await exists(path)) return path;
  }
  throw new Error(`postgres ${VERSION} is not in ${npmCache}`);
}

/** @throws Error when a place to change is not there: then the package is another one. */
function repaired(file: string, source: string): string {
  let text = source;
  for (const repair of REPAIRS) {
    if (repair.file !== file) continue;
    const from = text.indexOf(repair.from);
    const at = text.indexOf(repair.find, from);
    if (from < 0 || at < 0) throw new Error(`${file} has no "${repair.find}" after "${repair.from}"`);
    text = text.slice(0, at) + repair.put + text.slice(at + repair.find.length);
  }
  return text;
}

/** The same repairs make the same stamp. */
async function stampOf(): Promise<string> {
  const text = new TextEncoder().encode(JSON.stringify([VERSION, REPAIRS]));
  return new Uint8Array(await crypto.subtle.digest("SHA-256", text)).toHex();
}

async function build(): Promise<void> {
  const stamp = await stampOf();
  if (await exists(`${BUILD}stamp-${stamp}`)) return;
  const sources = await packageSources();
  const partial = await Deno.makeTempDir({ dir: new URL(".", import.meta.url).pathname, prefix: "build-" });
  try {
    for await (const { name } of Deno.readDir(sources)) {
      await Deno.writeTextFile(`${partial}/${name}`, repaired(name, await Deno.readTextFile(`${sources}/${name}`)));
    }
    await Deno.writeTextFile(`${partial}/stamp-${stamp}`, "");
    await Deno.chmod(partial, 0o755);
    if (await exists(BUILD)) await Deno.remove(BUILD, { recursive: true });
    await Deno.rename(partial, BUILD);
  } finally {
    if (await exists(partial)) await Deno.remove(partial, { recursive: true });
  }
}

await build();
