import { runTool } from "../../../services/cli/tool/run_tool.ts";

/** Names of namespaces that a test made begin with this and the number of its process. */
const PREFIX = "torporground-";

/** A network namespace of a test. */
export class Namespace implements AsyncDisposable {
  private constructor(readonly name: string) {}

  static async make(role: string): Promise<Namespace> {
    const name = `${PREFIX}${Deno.pid}-${crypto.randomUUID().slice(0, 4)}-${role}`;
    await runTool(["ip", "netns", "add", name]);
    return new Namespace(name);
  }

  /** One that somebody else has made, and removes. */
  static at(name: string): Namespace {
    return new Namespace(name);
  }

  /**
   * The arguments that run a program here. Not `ip netns exec`: that gives it mounts of its own, and the namespaces that a host
   * agent makes below it would be gone with it.
   */
  inside(argv: readonly string[]): string[] {
    return ["nsenter", `--net=/run/netns/${this.name}`, ...argv];
  }

  /** Runs a program here and returns its stdout; any other exit than 0 throws. */
  async run(...argv: string[]): Promise<string> {
    return await runTool(this.inside(argv));
  }

  /** Runs lines of `ip`. */
  async ip(lines: readonly string[]): Promise<void> {
    await feed(this.inside(["ip", "-batch", "-"]), `${lines.join("\n")}\n`);
  }

  /** Runs an nft script as one transaction. */
  async nft(script: string): Promise<void> {
    await feed(this.inside(["nft", "-f", "-"]), script);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await runTool(["ip", "netns", "delete", this.name]);
  }
}

/** Removes namespaces of tests whose process was killed. */
export async function sweepNamespaces(): Promise<void> {
  const names = (await runTool(["ip", "netns", "list"])).split("\n").map((line) => line.split(" ")[0]!);
  for (const name of names) {
    const pid = new RegExp(`^${PREFIX}(\\d+)-`).exec(name)?.[1];
    if (pid && !await isThere(`/proc/${pid}`)) await runTool(["ip", "netns", "delete", name]);
  }
}

async function feed(argv: string[], input: string): Promise<void> {
  const child = new Deno.Command(argv[0]!, {
    args: argv.slice(1),
    stdin: "piped",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(input));
  await writer.close();
  const { success, stderr } = await child.output();
  if (!success) throw new Error(`${argv.join(" ")}: ${new TextDecoder().decode(stderr)}${input}`);
}

async function isThere(path: string): Promise<boolean> {
  try {
    await Deno.lstat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
