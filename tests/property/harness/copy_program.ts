import { basename } from "@std/path";
import type { TestHostAgent } from "@torpor/testing/hostagent";

const CHUNK_BYTES = 65_536;

/**
 * Copies a dynamically linked program of this machine with its libraries and its loader into a guest.
 * @returns the command line that runs it there.
 */
export async function copyProgram(host: TestHostAgent, sandboxId: string, program: string): Promise<string> {
  const files = [program, ...await librariesOf(program)];
  const loader = files.find((path) => basename(path).startsWith("ld-linux"));
  const tar = ["--create", "--dereference", "--transform", "s|.*/||", "--absolute-names", ...files];
  const { success, stdout } = await new Deno.Command("tar", { args: tar, stdin: "null", stderr: "inherit" }).output();
  if (!success || !loader) throw new Error(`${program} could not be packed`);
  const directory = `/opt/${basename(program)}`;
  await host.client.writeFileStream(messages(sandboxId, `${directory}.tar`, stdout));
  await host.run(sandboxId, `mkdir ${directory} && tar -xf ${directory}.tar -C ${directory} && rm ${directory}.tar`);
  return `${directory}/${basename(loader)} --library-path ${directory} ${directory}/${basename(program)}`;
}

async function librariesOf(program: string): Promise<string[]> {
  const { stdout } = await new Deno.Command("ldd", { args: [program] }).output();
  const paths = new TextDecoder().decode(stdout).matchAll(/(\/\S+) \(0x/g);
  return Array.from(paths, ([, path]) => path!);
}

async function* messages(sandboxId: string, path: string, content: Uint8Array<ArrayBuffer>) {
  yield { content: { case: "meta" as const, value: { sandboxId, path, user: "root" } } };
  for (let at = 0; at < content.length; at += CHUNK_BYTES) {
    yield { content: { case: "chunk" as const, value: content.subarray(at, at + CHUNK_BYTES) } };
  }
}
