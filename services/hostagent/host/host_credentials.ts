import {
  createKey,
  hashHostSecret,
  type HostToken,
  parseHostToken,
  renewalDelayMs,
  requestFor,
} from "@torpor/certificates";
import { asTorporError, TorporError } from "@torpor/errors";
import { SchedulerService } from "@torpor/proto/scheduler";
import { Credentials, openClient } from "@torpor/rpc";
import { log, untraced } from "@torpor/telemetry";
import { delay } from "./delay.ts";
import { type HostIdentityFile, readIdentityFile, writeIdentityFile } from "./host_identity_file.ts";

const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 30_000;

/** Options of {@linkcode HostCredentials.open}. */
export interface HostCredentialsOptions {
  hostId: string;
  /** `https://host:port#scheduler`. */
  schedulerUrl: string;
  /** TORPOR_HOST_TOKEN; needed until the host has a certificate. A new one makes the host join anew. */
  token?: string;
  /** Where key and certificate are kept. */
  path: string;
}

/**
 * The certificate of a host: got with a one-time token, kept in the data directory, renewed in time. Its key is made here
 * and goes nowhere. Dispose it to stop renewing.
 */
export class HostCredentials extends Credentials implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #renewing: Promise<void>;

  private constructor(private identity: HostIdentityFile, private readonly options: HostCredentialsOptions) {
    super(identity);
    this.#renewing = untraced(() => this.#renewForEver(this.#stop.signal));
  }

  /**
   * Opens the host's certificate, or gets the first one; while the scheduler cannot be reached it keeps trying.
   * @throws TorporError `config_invalid` without certificate and token; `permission_denied` when the token is not valid;
   * `already_exists`.
   */
  static async open(options: HostCredentialsOptions): Promise<HostCredentials> {
    const identity = await prepared(options);
    if (identity.certificate !== "") return new HostCredentials(identity, options);
    return new HostCredentials(await enroll(identity, options), options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#renewing;
  }

  async #renewForEver(signal: AbortSignal): Promise<void> {
    let waitMs = renewalDelayMs(this.identity.certificate);
    let retryMs = FIRST_RETRY_MS;
    for (;;) {
      await delay(waitMs, signal).catch(() => {});
      if (signal.aborted) return;
      try {
        await this.#renew(signal);
        waitMs = renewalDelayMs(this.identity.certificate);
        retryMs = FIRST_RETRY_MS;
      } catch (thrown) {
        if (signal.aborted) return;
        log("warn", "certificate_not_renewed", { retry_ms: retryMs }, thrown);
        waitMs = retryMs;
        retryMs = Math.min(retryMs * 2, LONGEST_RETRY_MS);
      }
    }
  }

  async #renew(signal: AbortSignal): Promise<void> {
    using scheduler = openClient(SchedulerService, { address: this.options.schedulerUrl, credentials: this });
    const key = await createKey();
    const certificateRequest = await requestFor(key);
    const { certificate } = await scheduler.renewHostCertificate({ certificateRequest }, { signal });
    this.identity = { ...this.identity, key, certificate };
    await writeIdentityFile(this.options.path, this.identity);
    this.replace(this.identity);
    log("info", "certificate_renewed", { host_id: this.options.hostId });
  }
}

/** What the data directory holds, or a key for a token that was not used yet: written down before it is sent. */
async function prepared({ path, token }: HostCredentialsOptions): Promise<HostIdentityFile> {
  const stored = await readIdentityFile(path);
  if (!token) {
    if (stored && stored.certificate !== "") return stored;
    throw new TorporError("config_invalid", "this host has no certificate and no token to get one with", {
      field: "TORPOR_HOST_TOKEN",
      hint: "make one with: torpor host add NAME",
    });
  }
  const parsed = parseHostToken(token);
  const tokenHash = (await hashHostSecret(parsed.secret)).toHex();
  if (stored?.token_hash === tokenHash) return stored;
  const fresh = { token_hash: tokenHash, key: await createKey(), certificate: "", authority: parsed.authority };
  await writeIdentityFile(path, fresh);
  return fresh;
}

async function enroll(identity: HostIdentityFile, options: HostCredentialsOptions): Promise<HostIdentityFile> {
  const token = parseHostToken(options.token!);
  for (let retryMs = FIRST_RETRY_MS;; retryMs = Math.min(retryMs * 2, LONGEST_RETRY_MS)) {
    try {
      const certificate = await askForCertificate(identity, token, options);
      const issued = { ...identity, certificate };
      await writeIdentityFile(options.path, issued);
      log("info", "host_enrolled", { host_id: options.hostId });
      return issued;
    } catch (thrown) {
      if (!["unavailable", "deadline_exceeded"].includes(asTorporError(thrown).code)) throw thrown;
      log("warn", "host_not_enrolled", { retry_ms: retryMs }, thrown);
      await delay(retryMs);
    }
  }
}

async function askForCertificate(
  { key, authority }: HostIdentityFile,
  { secret }: HostToken,
  { hostId, schedulerUrl }: HostCredentialsOptions,
): Promise<string> {
  // Without a certificate of its own, but only to a scheduler that has one of the token's authority.
  const credentials = new Credentials({ key: "", certificate: "", authority });
  using scheduler = openClient(SchedulerService, { address: schedulerUrl, credentials });
  const certificateRequest = await requestFor(key);
  return (await scheduler.enrollHost({ secret, hostId, certificateRequest })).certificate;
}
