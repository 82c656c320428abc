import { TorporError } from "@torpor/errors";

/** A script of this size is loaded in some ms; a kernel that takes longer has a lock that nobody gives back. */
const TIMEOUT_MS = 10_000;

/**
 * Has nft carry out a script, as one transaction: all of it or nothing.
 * @param namespace a name under /run/netns; absent: this process's own.
 * @throws TorporError `unavailable`: nothing has changed.
 */
export async function applyRuleset(script: string, namespace?: string): Promise<void> {
  await runNft(["-f", "-"], namespace, script);
}

/**
 * Runs nft, in a namespace, and returns what it prints. nsenter and not `ip netns exec`, which mounts a sysfs of its own and
 * takes twice as long.
 * @throws TorporError `unavailable`.
 */
export async function runNft(args: readonly string[], namespace?: string, input?: string): Promise<string> {
  return await runInNamespace(["nft", ...args], namespace, input);
}

/** The same for any program. */
export async function runInNamespace(argv: readonly string[], namespace?: string, input?: string): Promise<string> {
  const [program, ...args] = namespace === undefined
    ? argv
    : ["nsenter", `--net=/run/netns/${namespace}`, "--", ...argv];
  const child = new Deno.Command(program!, {
    args,
    env: { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C" },
    clearEnv: true,
    stdin: input === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  }).spawn();
  const written = input === undefined ? undefined : writeAll(child.stdin, input);
  const [{ success, stdout, stderr, signal }] = await Promise.all([child.output(), written]);
  if (success) return new TextDecoder().decode(stdout);
  const said = signal ? `ended by ${signal}` : new TextDecoder().decode(stderr).trim().slice(0, 2000);
  throw new TorporError("unavailable", `${argv.join(" ")}${namespace ? ` in namespace ${namespace}` : ""}: ${said}`);
}

async function writeAll(stdin: WritableStream<Uint8Array>, text: string): Promise<void> {
  try {
    await new Blob([text]).stream().pipeTo(stdin);
  } catch (error) {
    // It has ended without reading all of it: its exit status says why.
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}
