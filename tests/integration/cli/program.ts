import { join } from "@std/path";
import { fromFileUrl } from "@std/path";

const PROGRAM = fromFileUrl(new URL("../../../torpor", import.meta.url));

/** What a run of ./torpor printed, and its exit code. */
export interface Ran {
  code: number;
  stdout: string;
  stderr: string;
  /** The last line of stdout as JSON. */
  // deno-lint-ignore no-explicit-any
  json: () => any;
}

/** ./torpor with a data directory of its own and the cache of the test run. Disposing it stops and deletes all. */
export class Program implements AsyncDisposable {
  private constructor(readonly home: string) {}

  static async open(): Promise<Program> {
    const home = await Deno.makeTempDir({ prefix: "cli" });
    return new Program(home);
  }

  /** Runs a command to its end. */
  async run(args: string[], stdin?: string | Uint8Array<ArrayBuffer>): Promise<Ran> {
    const child = this.start(args, stdin === undefined ? "null" : "piped");
    const feed = async () => {
      if (stdin === undefined) return;
      const writer = child.stdin.getWriter();
      await writer.write(typeof stdin === "string" ? new TextEncoder().encode(stdin) : stdin);
      await writer.close();
    };
    const [output] = await Promise.all([child.output(), feed()]);
    const text = new TextDecoder();
    const stdout = text.decode(output.stdout);
    return {
      code: output.code,
      stdout,
      stderr: text.decode(output.stderr),
      json: () => JSON.parse(stdout.trimEnd().split("\n").at(-1)!),
    };
  }

  /** Starts a command and leaves it running. */
  start(args: string[], stdin: "null" | "piped" = "null"): Deno.ChildProcess {
    return new Deno.Command(PROGRAM, {
      args,
      env: {
        TORPOR_HOME: this.home,
        TORPOR_CACHE: Deno.env.get("TORPOR_CACHE") || "/var/lib/torpor/cache",
        // Nothing of the run that this test belongs to.
        TORPOR_LIB_DIR: "",
        // Nothing in this machine's own network changes.
        TORPOR_NETWORK: "off",
        NO_COLOR: "1",
      },
      stdin,
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  }

  path(name: string): string {
    return join(this.home, name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { code, stderr } = await this.run(["down", "--purge", "--yes"]);
    if (code !== 0) throw new Error(`torpor down failed:\n${stderr}`);
  }
}
