import { type Descriptor, NativeError, shareLease, takeLease } from "@torpor/ffi";

/** Shared by all agents of the machine, and gone when it starts anew, as are the processes. */
const DIRECTORY = "/run/torpor/users";
/** As many as there can be processes of VMs. */
const COUNT = 65_536;
const TRIES = 1000;

/** A user that nobody else on this machine is at the same time. Disposing it gives it back, once its process has ended as well. */
export interface LeasedUser extends Disposable {
  readonly id: number;
  /** For the process that runs as this user: with it open, the user stays taken. The caller's. */
  inherit(): Descriptor;
}

/** The users that VMMs and pagers run as: a range of numbers without names (docs/decisions/0027-confinement.md). */
export class Users {
  readonly #base: number;
  #next: number;

  /** @param base the first one. */
  constructor(base: number) {
    this.#base = base;
    // Agents that start at the same number would try each other's.
    this.#next = Math.floor(Math.random() * COUNT);
  }

  /** @throws NativeError, Deno.errors: when the directory of the leases cannot be made or written. */
  static open(base: number): Users {
    Deno.mkdirSync(DIRECTORY, { recursive: true, mode: 0o700 });
    return new Users(base);
  }

  /** Takes a user. @throws NativeError; Error when a thousand in a row are taken. */
  take(): LeasedUser {
    for (let tries = 0; tries < TRIES; tries++) {
      const id = this.#base + this.#next++ % COUNT;
      const lease = takeLease(leasePath(id));
      if (lease) return leased(id, lease);
    }
    throw new Error(`no user is free from ${this.#base} on`);
  }

  /** Holds on to the user that a process of an earlier agent runs as. @throws NativeError. */
  keep(id: number): LeasedUser {
    return leased(id, shareLease(leasePath(id)));
  }
}

function leasePath(id: number): string {
  return `${DIRECTORY}/${id}`;
}

function leased(id: number, own: Descriptor): LeasedUser {
  return {
    id,
    inherit: () => shareSurely(leasePath(id)),
    [Symbol.dispose]: () => own.close(),
  };
}

/** Another agent that tries the number holds it for microseconds. */
function shareSurely(path: string): Descriptor {
  for (let tries = 1;; tries++) {
    try {
      return shareLease(path);
    } catch (error) {
      if (!(error instanceof NativeError && error.code === "native_eagain") || tries === TRIES) throw error;
    }
  }
}
