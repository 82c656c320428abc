import type { Deployment } from "./deployment.ts";

/** What sandboxes of these tests are made of. */
const SPEC = { template: "base", vcpus: 1, memory_mb: 192, disk_size_mb: 512, timeout_sec: 0 };

/** A path in the guest's memory, and one on its disk: both must tell the same. */
const MARKS = ["/dev/shm/mark", "/root/mark"] as const;

/** The sandbox that a case works on, and what its guest must remember. */
export class Subject {
  #id: string | undefined;
  /** What the running guest was told last. */
  #live = "";
  /** What the newest snapshot remembers; undefined: there is none. */
  #saved: string | undefined;

  constructor(private readonly deployment: Deployment) {}

  /** @throws before {@linkcode run}. */
  get id(): string {
    if (this.#id === undefined) throw new Error("there is no sandbox yet");
    return this.#id;
  }

  /** What a new create is to be made of. */
  static get spec(): typeof SPEC {
    return SPEC;
  }

  /** Brings the sandbox of the case before to life again, or makes another. */
  async run(): Promise<void> {
    const state = this.#id === undefined ? "none" : (await this.#get(this.#id)).state;
    if (state === "paused") await this.deployment.demand("POST", `/v1/sandboxes/${this.id}/resume`);
    else if (state !== "running") await this.#create();
  }

  async #create(): Promise<void> {
    await this.remove();
    this.#id = (await this.deployment.demand("POST", "/v1/sandboxes", SPEC)).sandbox_id;
    this.#saved = undefined;
  }

  /** Tells the running guest something new, in its memory and on its disk. */
  async mark(): Promise<void> {
    this.#live = crypto.randomUUID();
    const commands = MARKS.map((path) => `echo ${this.#live} > ${path}`);
    await this.deployment.run(this.id, [...commands, "sync"].join(" && "));
  }

  /** Pauses it, and resumes it when it is to have a pager. */
  async sleep(options: { wake: boolean }): Promise<void> {
    await this.deployment.demand("POST", `/v1/sandboxes/${this.id}/pause`);
    this.#saved = this.#live;
    if (options.wake) await this.deployment.demand("POST", `/v1/sandboxes/${this.id}/resume`);
  }

  /**
   * What is wrong with the sandbox, as far as its guest can tell: it must be where its state says, with what it was told
   * last. One that says why it is not may remember what its newest snapshot does.
   * @param mayFail whether the case may cost a sandbox that has no snapshot.
   */
  async check(mayFail: boolean): Promise<string[]> {
    const { state, reason } = await this.#get(this.id);
    if (state === "deleted") return [];
    if (state === "failed") {
      await this.remove();
      return mayFail && this.#saved === undefined && reason ? [] : [`it has failed: ${reason}`];
    }
    if (state === "paused") await this.deployment.demand("POST", `/v1/sandboxes/${this.id}/resume`);
    const allowed = [this.#live, ...(reason && this.#saved !== undefined ? [this.#saved] : [])];
    const seen = await readMarks(this.deployment, this.id);
    if (!allowed.includes(seen)) return [`${state} (${reason}) with ${seen}, not ${allowed.join(" or ")}`];
    this.#live = seen;
    // It may have been saved meanwhile; the next case must not rest on what was saved before.
    if (state === "paused") this.#saved = seen;
    return [];
  }

  /** What is wrong with a child of it. */
  async checkChild(id: string): Promise<string[]> {
    const seen = await readMarks(this.deployment, id);
    return seen === this.#live ? [] : [`child ${id} remembers ${seen}, not ${this.#live}`];
  }

  /** Deletes it. */
  async remove(): Promise<void> {
    if (this.#id !== undefined) await this.deployment.demand("DELETE", `/v1/sandboxes/${this.#id}`);
    this.#id = undefined;
  }

  async #get(id: string): Promise<{ state: string; reason: string }> {
    const { status, json } = await this.deployment.call("GET", `/v1/sandboxes/${id}`);
    if (status === 404) return { state: "deleted", reason: "" };
    if (status !== 200) throw new Error(`GET ${id} answered ${status}: ${JSON.stringify(json)}`);
    return { state: json.state, reason: json.reason ?? "" };
  }
}

async function readMarks(deployment: Deployment, id: string): Promise<string> {
  const marks = (await deployment.run(id, `cat ${MARKS.join(" ")}`)).split("\n");
  return marks[0] === marks[1] ? marks[0]! : `${marks[0]} in memory and ${marks[1]} on disk`;
}
