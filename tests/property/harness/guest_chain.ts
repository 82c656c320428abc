import { fromFileUrl } from "@std/path";
import { newId } from "@torpor/ids";
import type { TestHostAgent } from "@torpor/testing/hostagent";
import { WrongBytes } from "./chain.ts";
import { HeldBytes } from "./guest_holder.ts";
import type { Random } from "./random.ts";

const HOLDER = fromFileUrl(new URL("./holder.py", import.meta.url));

/** Boots a guest that holds bytes, and keeps a snapshot of it: what chains are spawned from. @returns the snapshot's id. */
export async function prepareGuest(host: TestHostAgent, memoryMb: number): Promise<string> {
  const id = await host.create({ memoryMb });
  const program = btoa(await Deno.readTextFile(HOLDER));
  await host.run(
    id,
    `echo ${program} | base64 -d > /root/holder.py; mkfifo /run/commands /run/answers
     nohup python3 /root/holder.py /run/commands /run/answers > /root/holder.log 2>&1 &`,
  );
  await tell(host, id, []);
  const snapshotId = newId();
  await host.client.createSnapshot({ sandboxId: id, snapshotId, keepSandbox: false });
  return snapshotId;
}

/** One random chain with a real guest: what it holds after each step must be what the model holds. */
export class GuestChain {
  readonly steps: string[] = [];
  readonly #host: TestHostAgent;
  readonly #random: Random;
  readonly #held = new HeldBytes();

  constructor(host: TestHostAgent, random: Random) {
    this.#host = host;
    this.#random = random;
  }

  /** @param snapshotId of prepareGuest. @throws WrongBytes; whatever an operation fails with. */
  async run(snapshotId: string): Promise<void> {
    let id = await this.#spawn(snapshotId);
    for (let left = this.#random.between(2, 4); left > 0; left--) {
      await this.#change(id, this.#held);
      const step = this.#random.weighted({ pause: 5, fork: 2, dropCaches: 1 });
      if (step === "pause") await this.#pauseAndResume(id);
      if (step === "dropCaches") await this.#dropCaches(id);
      if (step === "fork") id = await this.#fork(id);
    }
    await this.#check(id, this.#held);
    await this.#host.client.destroySandbox({ sandboxId: id });
  }

  async #spawn(snapshotId: string): Promise<string> {
    const sandboxId = newId();
    this.steps.push(`spawn ${sandboxId} from ${snapshotId}`);
    await this.#host.client.createSandbox({ sandboxId, snapshotId });
    return sandboxId;
  }

  async #pauseAndResume(sandboxId: string): Promise<void> {
    this.steps.push(`pause and resume ${sandboxId}`);
    await this.#host.client.pauseSandbox({ sandboxId });
    await this.#host.client.resumeSandbox({ sandboxId });
    await this.#check(sandboxId, this.#held);
  }

  /** What is on the disk comes from the disk then. */
  async #dropCaches(sandboxId: string): Promise<void> {
    this.steps.push(`drop the caches of ${sandboxId}`);
    await this.#host.run(sandboxId, "sync; echo 3 > /proc/sys/vm/drop_caches");
    await this.#check(sandboxId, this.#held);
  }

  /** Both go on by themselves from one checkpoint; the chain goes on with the child. */
  async #fork(sandboxId: string): Promise<string> {
    this.steps.push(`fork ${sandboxId}`);
    const snapshotId = newId();
    await this.#host.client.createSnapshot({ sandboxId, snapshotId, keepSandbox: true });
    const child = await this.#spawn(snapshotId);
    await this.#host.client.deleteSnapshot({ snapshotId });
    const source = this.#held.copy();
    await this.#change(sandboxId, source);
    await this.#check(child, this.#held);
    await this.#check(sandboxId, source);
    await this.#host.client.destroySandbox({ sandboxId });
    return child;
  }

  async #change(sandboxId: string, held: HeldBytes): Promise<void> {
    const lines = held.change(this.#random);
    this.steps.push(...lines.map((line) => `${sandboxId} ${line}`));
    this.#compare(sandboxId, held, await tell(this.#host, sandboxId, lines));
  }

  async #check(sandboxId: string, held: HeldBytes): Promise<void> {
    this.#compare(sandboxId, held, await tell(this.#host, sandboxId, []));
  }

  #compare(sandboxId: string, held: HeldBytes, answer: string): void {
    const expected = held.sums();
    if (answer !== expected) throw new WrongBytes(`${sandboxId} holds ${answer}, not ${expected}`);
  }
}

/** Sends commands to holder.py. @returns the checksums of what it then holds. */
async function tell(host: TestHostAgent, sandboxId: string, lines: string[]): Promise<string> {
  return await host.run(
    sandboxId,
    `printf '%s\\n' ${[...lines, "sums"].map((line) => `'${line}'`).join(" ")} > /run/commands; cat /run/answers`,
  );
}
