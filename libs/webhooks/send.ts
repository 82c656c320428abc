import { DeliveryError, type DeliveryErrorCode } from "./delivery_error.ts";
import { type Message, messageBody, signedHeaders } from "./message.ts";
import { post, type ReceiverAnswer } from "./post.ts";
import { type Lookup, receiverAddresses, systemLookup } from "./receiver_address.ts";

/** How long an attempt may take altogether, ms: the name, the connection, the answer. */
export const ATTEMPT_TIMEOUT_MS = 10_000;

/** Addresses of one name that are tried at most. */
const MAX_ADDRESSES = 3;

/** How attempts are made. */
export interface SendOptions {
  /** TORPOR_WEBHOOK_ALLOW_PRIVATE. */
  allowPrivate: boolean;
  /** Default: {@linkcode systemLookup}. */
  lookup?: Lookup;
  /** Default: {@linkcode ATTEMPT_TIMEOUT_MS}. */
  timeoutMs?: number;
  caCertificates?: string[];
}

/** How an attempt ended: `error` is absent when the event was received. */
export interface SendResult {
  error?: DeliveryErrorCode;
  answer?: ReceiverAnswer;
  tookMs: number;
  /** What the network said, for the log. */
  cause?: unknown;
}

/**
 * Sends one event once.
 * @param secrets `whsec_…`: those that are valid, the newest first.
 * @param signal breaks it off.
 * @throws the reason of `signal` when that is aborted; a receiver that fails is a result.
 */
export async function send(
  url: URL,
  message: Message,
  secrets: readonly string[],
  options: SendOptions,
  signal: AbortSignal,
): Promise<SendResult> {
  const began = performance.now();
  const result = (rest: Omit<SendResult, "tookMs">) => ({ ...rest, tookMs: performance.now() - began });
  using deadline = new Deadline(options.timeoutMs ?? ATTEMPT_TIMEOUT_MS, signal);
  try {
    const answer = await attempt(url, message, secrets, options, deadline);
    return result({ answer, error: errorOf(answer) });
  } catch (thrown) {
    signal.throwIfAborted();
    if (!(thrown instanceof DeliveryError)) throw thrown;
    return result({ error: thrown.code, cause: thrown.cause });
  }
}

async function attempt(
  url: URL,
  message: Message,
  secrets: readonly string[],
  { allowPrivate, lookup = systemLookup, caCertificates }: SendOptions,
  deadline: Deadline,
): Promise<ReceiverAnswer> {
  // A resolver cannot be told to stop: it is left behind.
  const addresses = await deadline.within(receiverAddresses(url, { lookup, allowPrivate }));
  const body = messageBody(message);
  const headers = {
    ...signedHeaders(message, body, secrets, new Date()),
    "user-agent": "Torpor-Webhooks/1",
    accept: "*/*",
    connection: "close",
  };
  let failure: unknown;
  for (const address of addresses.slice(0, MAX_ADDRESSES)) {
    try {
      return await post({ url, address, headers, body, caCertificates }, deadline.signal);
    } catch (thrown) {
      // The next address only when this one cannot be reached at all: a receiver that broke off may have the event.
      if (!isUnreachable(thrown)) throw thrown;
      failure = thrown;
    }
  }
  throw failure;
}

const UNREACHABLE = ["ECONNREFUSED", "ENETUNREACH", "EHOSTUNREACH", "EADDRNOTAVAIL"];

function isUnreachable(thrown: unknown): boolean {
  const cause = thrown instanceof DeliveryError ? thrown.cause : undefined;
  return cause instanceof Error && "code" in cause && UNREACHABLE.includes(String(cause.code));
}

function errorOf({ status }: ReceiverAnswer): DeliveryErrorCode | undefined {
  if (status >= 200 && status < 300) return undefined;
  if (status >= 300 && status < 400) return "redirected";
  return status === 410 ? "gone" : "refused";
}

/** Aborts its signal after a time, or with another signal. */
class Deadline implements Disposable {
  readonly #controller = new AbortController();
  readonly #timer: ReturnType<typeof setTimeout>;
  readonly #abort = () => this.#controller.abort();

  constructor(ms: number, private readonly outer: AbortSignal) {
    this.#timer = setTimeout(this.#abort, ms);
    if (outer.aborted) this.#abort();
    outer.addEventListener("abort", this.#abort);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** @throws DeliveryError `timed_out` when `work` takes longer. */
  async within<T>(work: Promise<T>): Promise<T> {
    work.catch(() => {});
    const { promise, reject } = Promise.withResolvers<never>();
    const refuse = () => reject(new DeliveryError("timed_out"));
    if (this.signal.aborted) refuse();
    this.signal.addEventListener("abort", refuse);
    try {
      return await Promise.race([work, promise]);
    } finally {
      this.signal.removeEventListener("abort", refuse);
    }
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.outer.removeEventListener("abort", this.#abort);
  }
}
