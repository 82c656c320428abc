import type { HostAgentProcess } from "@torpor/testing/hostagent";
import type { Namespace } from "../ground/mod.ts";

const PROBE = "/usr/local/bin/probe";
const EXEC_TIMEOUT_SEC = 200;

/** What a command came to. */
export interface Ran {
  exitCode: number;
  stdout: string;
  stderr: string;
}

/** Where a slot's namespace is, and its two outer addresses. */
export interface GuestSlot {
  namespace: string;
  /** The agent's side of the veth pair. */
  hostAddress: string;
  slotAddress: string;
}

/** A sandbox with the intruder's program. */
export class Guest {
  /** Its slot, as the namespaces show it. */
  slot!: GuestSlot;
  /** Of the newest policy that was set. */
  #revision = 0;

  /** @param agent the host agent as it is now: a killed one has a successor. */
  constructor(private readonly agent: () => HostAgentProcess, readonly id: string) {}

  /** Puts the program into the guest. */
  async arm(program: Uint8Array<ArrayBuffer>): Promise<void> {
    await this.agent().client.writeFile({ sandboxId: this.id, path: PROBE, content: program, user: "root" });
    await this.shell(`chmod 755 ${PROBE}`);
  }

  /** Runs the intruder's program as root; what it prints. */
  async probe(...args: (string | number)[]): Promise<string> {
    const { exitCode, stdout, stderr } = await this.exec(PROBE, args.map(String));
    if (exitCode !== 0) throw new Error(`probe ${args.join(" ").slice(0, 200)} exited with ${exitCode}: ${stderr}`);
    return stdout;
  }

  /** Runs it in the background; what it prints goes to the file that is returned. */
  async background(...args: (string | number)[]): Promise<string> {
    const file = `/tmp/${crypto.randomUUID().slice(0, 8)}`;
    await this.shell(`setsid ${PROBE} ${args.join(" ")} > ${file} 2>&1 < /dev/null & echo started`);
    return file;
  }

  /** Runs a command line as root and returns its output; another exit than 0 throws. */
  async shell(command: string): Promise<string> {
    const { exitCode, stdout, stderr } = await this.exec(command, []);
    if (exitCode !== 0) throw new Error(`${command} exited with ${exitCode}: ${stderr}`);
    return stdout;
  }

  /** Runs a program (with arguments) or a command line (without) as root. */
  async exec(cmd: string, args: string[]): Promise<Ran> {
    const { client } = this.agent();
    const ran = await client.exec({ sandboxId: this.id, cmd, args, user: "root", timeoutSec: EXEC_TIMEOUT_SEC });
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes).trim();
    return { exitCode: ran.exitCode, stdout: text(ran.stdout), stderr: text(ran.stderr) };
  }

  /** Sets what it may reach. */
  async allow(network: { allowInternetAccess: boolean; allowOut?: string[]; denyOut?: string[] }): Promise<void> {
    const networkRevision = BigInt(++this.#revision);
    await this.agent().client.updateNetwork({ sandboxId: this.id, network, networkRevision });
  }
}

/** Runs the intruder's program on this machine, in a namespace: where nothing confines it. */
export async function probeIn(
  namespace: Namespace | string,
  program: string,
  ...args: (string | number)[]
): Promise<string> {
  const path = typeof namespace === "string" ? `--net=/run/netns/${namespace}` : undefined;
  const argv = [program, ...args.map(String)];
  const whole = path ? ["nsenter", path, ...argv] : (namespace as Namespace).inside(argv);
  const { success, stdout, stderr } = await new Deno.Command(whole[0]!, { args: whole.slice(1), stdin: "null" })
    .output();
  if (!success) throw new Error(`${whole.join(" ").slice(0, 200)}: ${new TextDecoder().decode(stderr)}`);
  return new TextDecoder().decode(stdout).trim();
}
