import { createHash } from "node:crypto";
import { PAGE } from "./guest_image.ts";
import type { Random } from "./random.ts";

const MIB = 2 ** 20;
/** As in holder.py. */
const SIZES = { process: 4 * MIB, tmpfs: 2 * MIB, disk: 2 * MIB } as const;
const ACTIONS = ["fill", "fill", "zero", "free"] as const;
const MAX_PAGES = 256;

type Target = keyof typeof SIZES;

/** What holder.py must hold in a guest: the model. */
export class HeldBytes {
  readonly #bytes: Record<Target, Uint8Array>;

  constructor(bytes = mapTargets((target) => new Uint8Array(SIZES[target]))) {
    this.#bytes = bytes;
  }

  copy(): HeldBytes {
    return new HeldBytes(mapTargets((target) => this.#bytes[target].slice()));
  }

  /** Makes up commands for holder.py and applies them to the model. @returns one line each. */
  change(random: Random): string[] {
    return Array.from({ length: random.between(1, 5) }, () => this.#changeOnce(random));
  }

  #changeOnce(random: Random): string {
    const target = random.pick(Object.keys(SIZES) as Target[]);
    const action = random.pick(ACTIONS);
    const pages = random.between(1, MAX_PAGES);
    // Only whole pages can be given back.
    const cut = action === "free" ? 0 : random.between(0, PAGE - 1);
    const length = pages * PAGE - cut;
    const offset = random.between(0, (SIZES[target] - length - cut) / PAGE) * PAGE + cut;
    const seed = String(random.next());
    const bytes = this.#bytes[target];
    if (action === "fill") bytes.set(content(seed, length), offset);
    else bytes.fill(0, offset, offset + length);
    return [target, action, seed, offset, length].join(" ");
  }

  /** The line that holder.py answers. */
  sums(): string {
    const sum = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
    return (Object.keys(SIZES) as Target[]).sort().map((target) => `${target}=${sum(this.#bytes[target])}`).join(" ");
  }
}

function content(seed: string, length: number): Uint8Array {
  return createHash("shake128", { outputLength: length }).update(seed).digest();
}

function mapTargets<T>(map: (target: Target) => T): Record<Target, T> {
  return { process: map("process"), tmpfs: map("tmpfs"), disk: map("disk") };
}
