import {
  claimDeliveries,
  type ClaimedDelivery,
  type Database,
  deleteOldDeliveries,
  recordDelivered,
  recordFailed,
  releaseDelivery,
} from "@torpor/db";
import { asTorporError } from "@torpor/errors";
import { count, log, measure, untraced } from "@torpor/telemetry";
import { MAX_ATTEMPTS, retryDelayMs } from "./backoff.ts";
import { openSecret } from "./secret.ts";
import { ATTEMPT_TIMEOUT_MS, send, type SendOptions, type SendResult } from "./send.ts";

/** Attempts at the same time, in this process. */
const MAX_UNDER_WAY = 32;

/** … and to one receiver: one that stalls leaves room for the others. */
const MAX_PER_WEBHOOK = 4;

/** After that time another process may send what this one has taken; longer than any attempt, ms. */
const LEASE_MS = 3 * ATTEMPT_TIMEOUT_MS;

/** The outbox is looked at this often when nothing happens, ms. */
const POLL_MS = 500;

/** Between two looks for deliveries that are old enough to be forgotten, ms, and how many go with one statement. */
const FORGET_EVERY_MS = 60_000;
const FORGET_LIMIT = 1_000;

/** Options of {@linkcode WebhookDeliverer}. */
export interface DelivererOptions extends SendOptions {
  database: Database;
  /** TORPOR_INTERNAL_TOKEN: secrets are sealed with it. */
  token: string;
  /** How long deliveries that have ended are shown, ms. */
  retentionMs: number;
  /** A webhook that has failed for longer is disabled, ms. */
  disableAfterMs: number;
  /** Default: {@linkcode POLL_MS}. */
  pollMs?: number;
  /** Default: {@linkcode LEASE_MS}. */
  leaseMs?: number;
  /** Default: {@linkcode retryDelayMs}. */
  retryDelayMs?: (attempts: number, askedMs: number) => number;
}

/**
 * Sends what the outbox holds. Any number of processes may do so at the same time: each delivery is leased to one of them,
 * and one whose process has died is sent again, with the same id, when its lease is over.
 */
export class WebhookDeliverer implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #underWay = new Set<Promise<void>>();
  readonly #byWebhook = new Map<string, number>();
  /** Rung while nobody waits, it ends the next wait at once. */
  #rung = false;
  #wake: () => void = () => {};
  #ended: Promise<void> = Promise.resolve();
  #forgetAt = 0;

  constructor(private readonly options: DelivererOptions) {}

  /** Begins to send until disposed. */
  start(): void {
    this.#ended = untraced(() => this.#run());
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      let full = false;
      try {
        full = await this.#takeDue();
        await this.#forgetOld();
      } catch (thrown) {
        log("warn", "webhooks_not_claimed", {}, thrown);
      }
      // More may be due than could be taken: the end of an attempt makes room.
      await this.#pause(full ? Infinity : this.options.pollMs ?? POLL_MS);
    }
  }

  /** @returns true when there is no room for more. */
  async #takeDue(): Promise<boolean> {
    const total = MAX_UNDER_WAY - this.#underWay.size;
    if (total <= 0) return true;
    const claimed = await claimDeliveries(this.options.database.sql, {
      total,
      perWebhook: MAX_PER_WEBHOOK,
      underWay: this.#byWebhook,
      leaseMs: this.options.leaseMs ?? LEASE_MS,
    });
    for (const delivery of claimed) this.#begin(delivery);
    return claimed.length === total;
  }

  #begin(delivery: ClaimedDelivery): void {
    const { webhookId } = delivery;
    this.#byWebhook.set(webhookId, (this.#byWebhook.get(webhookId) ?? 0) + 1);
    const work = this.#deliver(delivery)
      // Not written down, so it is sent again when its lease is over.
      .catch((thrown) => log("warn", "webhook_attempt_not_recorded", { ...about(delivery) }, thrown))
      .finally(() => {
        const left = this.#byWebhook.get(webhookId)! - 1;
        if (left > 0) this.#byWebhook.set(webhookId, left);
        else this.#byWebhook.delete(webhookId);
        this.#underWay.delete(work);
        this.#ring();
      });
    this.#underWay.add(work);
  }

  async #deliver(delivery: ClaimedDelivery): Promise<void> {
    const { database } = this.options;
    let result: SendResult;
    try {
      result = await this.#send(delivery);
    } catch (thrown) {
      if (this.#stop.signal.aborted) return await releaseDelivery(database.sql, delivery);
      log("error", "webhook_attempt_broke", { ...about(delivery) }, thrown);
      result = { error: "internal", tookMs: 0 };
    }
    measure("torpor.webhook.attempt.duration", result.tookMs / 1000, { "torpor.outcome": result.error ?? "ok" });
    if (result.error === undefined) {
      const counted = await recordDelivered(database.sql, delivery, answeredOf(result));
      if (counted) count("torpor.webhook.deliveries", 1, { "torpor.delivery": "delivered" });
      return;
    }
    await this.#recordFailure(delivery, result);
  }

  async #send(delivery: ClaimedDelivery): Promise<SendResult> {
    const { url, secret, previousSecret, eventId: id, type, data, occurredAt } = delivery;
    let secrets: string[];
    try {
      const sealed = [secret, ...previousSecret ? [previousSecret] : []];
      secrets = await Promise.all(sealed.map((one) => openSecret(one, this.options.token)));
    } catch (cause) {
      if (asTorporError(cause).code !== "config_invalid") throw cause;
      return { error: "secret_unreadable", tookMs: 0, cause };
    }
    return await send(new URL(url), { id, type, occurredAt, data }, secrets, this.options, this.#stop.signal);
  }

  async #recordFailure(delivery: ClaimedDelivery, result: SendResult): Promise<void> {
    const { attempts } = delivery;
    const error = result.error!;
    const gone = error === "gone";
    const delayMs = (this.options.retryDelayMs ?? retryDelayMs)(attempts, result.answer?.retryAfterMs ?? 0);
    const retryInMs = gone || attempts >= MAX_ATTEMPTS ? undefined : delayMs;
    const noted = await recordFailed(this.options.database.sql, delivery, {
      ...answeredOf(result),
      error,
      retryInMs,
      disableAfterMs: gone ? 0 : this.options.disableAfterMs,
      disabledReason: gone ? "gone" : "failing",
    });
    if (!noted) return;
    count("torpor.webhook.deliveries", 1, { "torpor.delivery": retryInMs === undefined ? "failed" : "retried" });
    const facts = { ...about(delivery), reason: error, attempts };
    log(retryInMs === undefined ? "info" : "debug", "webhook_attempt_failed", facts, result.cause);
    if (noted.disabled) log("warn", "webhook_disabled", { ...about(delivery), reason: error });
  }

  async #forgetOld(): Promise<void> {
    const now = performance.now();
    if (now < this.#forgetAt) return;
    const forgotten = await deleteOldDeliveries(this.options.database.sql, this.options.retentionMs, FORGET_LIMIT);
    // A full batch: there is more.
    if (forgotten < FORGET_LIMIT) this.#forgetAt = now + FORGET_EVERY_MS;
  }

  #ring(): void {
    this.#rung = true;
    this.#wake();
  }

  async #pause(ms: number): Promise<void> {
    if (!this.#rung) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      const timer = ms === Infinity ? undefined : setTimeout(resolve, ms);
      await promise;
      clearTimeout(timer);
    }
    this.#rung = false;
  }

  /** Breaks off the attempts under way, which others then make, and ends. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#ring();
    await this.#ended;
    await Promise.all(this.#underWay);
  }
}

function answeredOf({ tookMs, answer }: SendResult) {
  return { tookMs, responseStatus: answer?.status, responseBody: answer?.body };
}

function about({ webhookId, teamId, eventId, type }: ClaimedDelivery) {
  return { webhook_id: webhookId, team_id: teamId, event_id: eventId, event_type: type };
}
