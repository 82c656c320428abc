import { TorporError } from "@torpor/errors";
import { log } from "@torpor/telemetry";
import { unreachableError } from "./protocol_error.ts";

/** Times of {@linkcode watchLiveness}, milliseconds. */
export interface LivenessTimes {
  checkMs: number;
  /** Requests that wait for a guest this silent are worth a question. */
  silenceMs: number;
  /** Then the guest is given up. */
  answerMs: number;
}

// A guest that swaps, or whose CPUs are stopped while its memory is written, may be silent for tens of seconds.
const TIMES: LivenessTimes = { checkMs: 5000, silenceMs: 10_000, answerMs: 60_000 };

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
export function watchLiveness(watched: Watched, times = TIMES): () => void {
  let asking: AbortController | undefined;
  const check = async () => {
    if (asking || watched.isIdle() || performance.now() - watched.lastReceivedMs() < times.silenceMs) return;
    const controller = asking = new AbortController();
    const timeout = setTimeout(() => {
      const error = unreachableError("the guest agent has stopped answering");
      controller.abort(error);
      watched.fail(error);
    }, times.answerMs);
    try {
      await watched.ping(controller.signal);
    } catch (error) {
      // A TorporError: the channel has closed, for this reason or another, and all requests have it.
      if (!(error instanceof TorporError)) log("error", "guest_ping_failed", {}, error);
    } finally {
      clearTimeout(timeout);
      asking = undefined;
    }
  };
  const timer = setInterval(() => void check(), times.checkMs);
  return () => clearInterval(timer);
}
