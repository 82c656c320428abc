/** `torpor exec` and `torpor attach` while the services between them and the process are killed, with a real VM. */
import { assert, assertEquals } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { Deployment } from "../../crash/matrix/deployment.ts";

const PROGRAM = fromFileUrl(new URL("../../../services/cli/main.ts", import.meta.url));
/** Of the deployment; the key of an administrator, who acts for the default team. */
const TOKEN = "crash-test-token";

/** A command of the program under way; its output so far can be waited for. */
class Running {
  stdout = "";
  stderr = "";
  readonly status: Promise<Deno.CommandStatus>;
  readonly #read: Promise<unknown>;
  #grown = Promise.withResolvers<void>();

  constructor(deployment: Deployment, args: string[]) {
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--allow-all", "--no-check", "--quiet", PROGRAM, ...args],
      env: { TORPOR_URL: `unix:${deployment.directory}/api.sock`, TORPOR_API_KEY: TOKEN, NO_COLOR: "1" },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.status = child.status;
    this.#read = Promise.all([
      this.#collect(child.stdout, (text) => this.stdout += text),
      this.#collect(child.stderr, (text) => this.stderr += text),
    ]);
  }

  async #collect(stream: ReadableStream<Uint8Array<ArrayBuffer>>, add: (text: string) => void): Promise<void> {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) {
      add(text);
      this.#grown.resolve();
      this.#grown = Promise.withResolvers();
    }
  }

  get lines(): number {
    return this.stdout.split("\n").length - 1;
  }

  /** Waits for more lines, as many as `count`. */
  async more(count: number): Promise<void> {
    const wanted = this.lines + count;
    const ended = this.#read.then(() => "ended" as const);
    while (this.lines < wanted) {
      const happened = await Promise.race([this.#grown.promise, ended]);
      if (happened === "ended" && this.lines < wanted) throw new Error(`it ended: ${this.stderr}`);
    }
  }

  /** Its exit code, once all its output was read. */
  async code(): Promise<number> {
    await this.#read;
    return (await this.status).code;
  }
}

function assertNumbered(text: string, from = 1): void {
  const numbers = text.trimEnd().split("\n").map(Number);
  assertEquals(numbers, Array.from(numbers, (_, index) => index + from));
}

Deno.test("exec goes on over the deaths of host agent and api, and attach over a pause", async () => {
  await using deployment = await Deployment.start();
  const created = await deployment.demand("POST", "/v1/sandboxes", { memory_mb: 192, disk_size_mb: 512 });
  const id: string = created.sandbox_id;
  const counter = "i=0; while ! [ -e /tmp/stop ]; do i=$((i+1)); echo $i; sleep 0.02; done; exit 7";
  const exec = new Running(deployment, ["exec", id, "--user", "root", "--", counter]);
  await exec.more(20);
  for (const service of ["hostagent", "api", "hostagent"]) {
    Deno.kill(Number(await Deno.readTextFile(`${deployment.directory}/${service}.pid`)), "SIGKILL");
    await exec.more(50);
    await deployment.ready();
  }
  assert(exec.stderr.includes("attached again"), exec.stderr);

  await deployment.demand("POST", `/v1/sandboxes/${id}/pause`);
  assertEquals(await exec.code(), 4, exec.stderr);
  assertNumbered(exec.stdout);
  const [, pid, after] = /attach \S+ (\d+) --after (\d+)/.exec(exec.stderr)!;
  await deployment.demand("POST", `/v1/sandboxes/${id}/resume`);
  const attached = new Running(deployment, ["attach", id, pid!, "--after", after!]);
  await attached.more(20);
  await deployment.run(id, "touch /tmp/stop");
  assertEquals(await attached.code(), 7, attached.stderr);
  assertNumbered(attached.stdout, exec.lines + 1);
  // All of it is still kept.
  const late = new Running(deployment, ["attach", id, pid!]);
  assertEquals(await late.code(), 7);
  assertEquals(late.stdout, exec.stdout + attached.stdout);
  await deployment.demand("DELETE", `/v1/sandboxes/${id}`);
});
