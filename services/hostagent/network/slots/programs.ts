import { TorporError } from "@torpor/errors";
import { findProgram } from "../../host/programs.ts";

/** Absolute paths of what changes devices and namespaces. */
export interface NetworkPrograms {
  ip: string;
  nsenter: string;
}

/** @throws TorporError `config_invalid` when one of them is not installed. */
export async function findNetworkPrograms(): Promise<NetworkPrograms> {
  // Rules are not set here, but without nft there are no slots.
  await findProgram("nft", "nftables");
  return { ip: await findProgram("ip", "iproute2"), nsenter: await findProgram("nsenter", "util-linux") };
}

/** Path of a named network namespace. */
export function namespacePath(namespace: string): string {
  return `/run/netns/${namespace}`;
}

/**
 * Runs the lines of an `ip -batch`, in this agent's network namespace or in a named one. nsenter and not `ip netns exec`, which
 * mounts a /sys of its own each time (some 100 ms).
 * @throws TorporError `unavailable` with what `ip` said; the lines before the one at fault are done.
 */
export async function runIp({ ip, nsenter }: NetworkPrograms, lines: string[], namespace?: string): Promise<void> {
  const batch = [ip, "-batch", "-"];
  const argv = namespace === undefined ? batch : [nsenter, `--net=${namespacePath(namespace)}`, ...batch];
  const child = new Deno.Command(argv[0]!, { args: argv.slice(1), stdin: "piped", stdout: "null", stderr: "piped" })
    .spawn();
  const [{ success, stderr }] = await Promise.all([child.output(), feed(child.stdin, lines)]);
  if (success) return;
  const said = new TextDecoder().decode(stderr).trim();
  throw new TorporError("unavailable", `the network could not be changed: ${said}`);
}

async function feed(stdin: WritableStream<Uint8Array>, lines: string[]): Promise<void> {
  const writer = stdin.getWriter();
  try {
    await writer.write(new TextEncoder().encode(lines.map((line) => line + "\n").join("")));
    await writer.close();
  } catch (error) {
    // The program has ended before it has read all: its exit says why.
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}
