import { fromFileUrl, join } from "@std/path";

const DIRECTORY = fromFileUrl(new URL(".", import.meta.url));
const FLAGS = ["-std=gnu11", "-O2", "-g", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-pthread"];

/** Compiles a C program of this folder, warnings being errors. @returns the path of the program, below `into`. */
export async function compile(source: string, into: string, flags: string[] = []): Promise<string> {
  const program = join(into, source.replace(/\.c$/, ""));
  const args = [...FLAGS, ...flags, join(DIRECTORY, source), "-o", program];
  const { success, stderr } = await new Deno.Command("gcc", { args, stdin: "null" }).output();
  if (!success) throw new Error(`gcc ${args.join(" ")}: ${new TextDecoder().decode(stderr)}`);
  return program;
}
