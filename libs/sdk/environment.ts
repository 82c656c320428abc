interface Platform {
  Deno?: { env: { get(name: string): string | undefined } };
  process?: { env: Record<string, string | undefined> };
}

/** An environment variable where there are any: Node, Bun and Deno, not browsers. */
export function environmentVariable(name: string): string | undefined {
  const { Deno: deno, process } = globalThis as Platform;
  return (deno ? deno.env.get(name) : process?.env[name]) || undefined;
}
