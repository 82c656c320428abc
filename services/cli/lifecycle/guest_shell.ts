import { TorporError } from "@torpor/errors";
import type { Api } from "../client/api.ts";

/** Runs programs in one sandbox and takes their output as text. */
export class GuestShell {
  constructor(private readonly api: Api, private readonly sandboxId: string, private readonly signal: AbortSignal) {}

  /**
   * Runs a program and returns its stdout without the last line feed.
   * @throws TorporError `internal` when it exits with another code than 0.
   */
  async run(argv: readonly string[], timeoutSec = 30): Promise<string> {
    const [cmd, ...args] = argv;
    const { sandboxId, signal } = this;
    const answer = await this.api.sandboxes.exec({ sandboxId, cmd, args, timeoutSec }, { signal });
    const text = new TextDecoder();
    if (answer.exitCode === 0) return text.decode(answer.stdout).replace(/\n$/, "");
    const why = answer.timedOut ? "timed out" : `exited with ${answer.exitCode}`;
    throw new TorporError("internal", `${cmd} in the sandbox ${why}: ${text.decode(answer.stderr).slice(-500)}`);
  }

  /** Runs a bash script, see {@linkcode run}. */
  async script(text: string, timeoutSec?: number): Promise<string> {
    return await this.run(["/bin/bash", "-c", text], timeoutSec);
  }
}
