import { dirname, fromFileUrl } from "@std/path";

/** Where the contracts are. */
export const PROTO_DIRECTORY = fromFileUrl(new URL(".", import.meta.url));

/** Runs buf (https://buf.build/docs/cli) on the contracts; returns what it printed and whether it was content. */
export async function buf(args: readonly string[]): Promise<{ success: boolean; output: string }> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--allow-all", "npm:@bufbuild/buf@1.74.0", ...args],
    cwd: PROTO_DIRECTORY,
    env: {
      // buf keeps a cache in the home directory otherwise, though it needs none here.
      BUF_CACHE_DIR: `${Deno.env.get("DENO_DIR") ?? Deno.env.get("TMPDIR") ?? "/tmp"}/buf`,
      // buf.gen.yaml names its plugin's runtime: it is this Deno, which need not be installed for everyone.
      PATH: `${dirname(Deno.execPath())}:${Deno.env.get("PATH") ?? ""}`,
    },
  }).output();
  const text = new TextDecoder();
  return { success, output: text.decode(stdout) + text.decode(stderr) };
}

/** Generates the TypeScript of all contracts into `directory` (its `gen/` part). */
export async function generate(directory: string): Promise<void> {
  const { success, output } = await buf(["generate", "--output", directory]);
  if (!success) throw new Error(`buf generate failed:\n${output}`);
}
