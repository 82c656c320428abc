import { TorporError } from "@torpor/errors";
import { unreachableError } from "./protocol_error.ts";

const CHECK_INTERVAL_MS = 5000;
/** Requests that wait for a guest this silent are worth a question. */
const SILENCE_MS = 10_000;
/** Long enough for a guest that swaps, or whose CPUs are stopped while its memory is written. */
const ANSWER_MS = 60_000;

/** What {@linkcode watchLiveness} watches. */
export interface Watched {
  /** No request is waiting. */
  isIdle(): boolean;
  /** `performance.now()` of the last sign of life. */
  lastReceivedMs(): number;
  ping(signal: AbortSignal): Promise<unknown>;
  fail(error: TorporError): void;
}

/**
 * Pings a guest that says nothing while requests wait, and fails the channel when it does not answer: a restarted agent
 * knows nothing of the old requests, and nothing else would tell.
 * @returns stops the watch.
 */
export function watchLiveness(watched: Watched): () => void {
  let asking: AbortController | undefined;
  const check = async () => {
    if (asking || watched.isIdle() || performance.now() - watched.lastReceivedMs() < SILENCE_MS) return;
    const controller = asking = new AbortController();
    const timeout = setTimeout(() => {
      const error = unreachableError("the guest agent has stopped answering");
      controller.abort(error);
      watched.fail(error);
    }, ANSWER_MS);
    try {
      await watched.ping(controller.signal);
    } catch (error) {
      // The channel has closed, for this reason or another: all requests have it.
      if (!(error instanceof TorporError)) throw error;
    } finally {
      clearTimeout(timeout);
      asking = undefined;
    }
  };
  const timer = setInterval(() => void check(), CHECK_INTERVAL_MS);
  return () => clearInterval(timer);
}
