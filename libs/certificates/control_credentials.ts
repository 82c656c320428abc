import { Credentials } from "@torpor/rpc";
import { log } from "@torpor/telemetry";
import type { Authority } from "./authority.ts";
import { createKey, readRequest, requestFor } from "./request.ts";
import { renewalDelayMs } from "./validity.ts";

/** How long certificates live when nothing else is configured, ms. */
export const DEFAULT_CERTIFICATE_LIFE_MS = 86_400_000;

/** A renewal that failed is tried again after this, ms. */
const RETRY_MS = 1_000;

/**
 * The certificate of a service of the control plane. It issues its own, as it has the authority, keeps it in memory, and
 * renews it in time. Dispose it to stop.
 */
export class ControlCredentials extends Credentials implements Disposable {
  #timer: ReturnType<typeof setTimeout> | undefined;
  #disposed = false;

  private constructor(first: Credentials["current"], readonly renew: () => Promise<Credentials["current"]>) {
    super(first);
    this.#schedule(renewalDelayMs(first.certificate));
  }

  /** @param peer one of CONTROL_PEERS. @param lifeMs of a certificate, ms. */
  static async open(authority: Authority, peer: string, lifeMs: number): Promise<ControlCredentials> {
    const issue = async () => {
      const key = await createKey();
      const { publicKey } = await readRequest(await requestFor(key));
      return { key, certificate: await authority.issue(peer, publicKey, lifeMs), authority: authority.certificate };
    };
    return new ControlCredentials(await issue(), issue);
  }

  #schedule(delayMs: number): void {
    this.#timer = setTimeout(() => void this.#renew(), delayMs);
  }

  async #renew(): Promise<void> {
    this.#timer = undefined;
    try {
      this.replace(await this.renew());
    } catch (thrown) {
      log("error", "certificate_not_renewed", {}, thrown);
      if (!this.#disposed) this.#schedule(RETRY_MS);
      return;
    }
    if (!this.#disposed) this.#schedule(renewalDelayMs(this.current.certificate));
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    clearTimeout(this.#timer);
  }
}
