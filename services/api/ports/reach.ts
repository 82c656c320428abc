import { findPortSandbox, type PortSandbox } from "@torpor/db";
import { asTorporError, type ErrorCode, TorporError } from "@torpor/errors";
import { isLive } from "@torpor/lifecycle";
import { tokensEqual, Tunnel } from "@torpor/rpc";
import { log } from "@torpor/telemetry";
import type { Api } from "../handlers/api.ts";
import { Refusal } from "./refusal.ts";
import type { PortTarget } from "./target.ts";

/** How long a request waits for its sandbox to be resumed. */
const HOLD_MS = 120_000;
/** Between two looks at a sandbox that its host and the database do not agree about yet. */
const LOOK_AGAIN_MS = 200;

/** The host's answers that mean that the sandbox is not where, or what, it was a moment ago. */
const MOVED: readonly ErrorCode[] = [
  "conflict",
  "sandbox_paused",
  "sandbox_not_found",
  "guest_unreachable",
  "vm_gone",
  "unavailable",
];

/** A way to a port of a sandbox. */
export interface ReachOptions {
  /** A request that will be answered, as opposed to a connection without a known end: see the host agent's route. */
  finite: boolean;
  /** The token that the client has shown; "" when none. */
  token: string;
  /** Ends the wait. */
  signal: AbortSignal;
}

/** Connects requests to the ports of sandboxes, and wakes those that are to be woken. */
export class PortReach {
  /** Resumes under way, so that a crowd of first requests asks for one. */
  readonly #resumes = new Map<string, Promise<void>>();

  constructor(private readonly api: Api) {}

  /**
   * Connects to a port. A paused sandbox that asked for it is resumed first, and the caller held until then.
   * @throws Refusal, or a TorporError for `refusalOf`.
   */
  async open(target: PortTarget, options: ReachOptions): Promise<Tunnel> {
    const deadlineMs = performance.now() + HOLD_MS;
    for (let attempt = 0;; attempt++) {
      const sandbox = await this.#find(target, options.token);
      if (isLive(sandbox)) {
        const outcome = await this.#connect(sandbox, target.port, options);
        if (outcome instanceof Tunnel) return outcome;
        // Without a resume there is one more look: what has begun to pause is known by now.
        if (!MOVED.includes(outcome.code) || (!sandbox.autoResume && attempt > 0)) throw outcome;
        // Its host has paused it and the database will learn so with the next pass.
        if (attempt > 0) await delay(LOOK_AGAIN_MS, options.signal);
      } else {
        await this.#resume(sandbox, deadlineMs, options.signal);
      }
      if (performance.now() > deadlineMs) throw new Refusal(504, "the sandbox was not resumed in time");
    }
  }

  /** The sandbox, if this caller may reach it. What it is doing is told to nobody else. */
  async #find({ sandboxId }: PortTarget, token: string): Promise<PortSandbox> {
    const sandbox = await findPortSandbox(this.api.database.sql, sandboxId);
    if (!sandbox || ["deleting", "deleted"].includes(sandbox.state)) throw notFound();
    if (!sandbox.publicTraffic && !tokensEqual(token, sandbox.trafficToken)) {
      throw new Refusal(
        403,
        token === "" ? "this sandbox is private: a traffic access token is needed" : "wrong traffic access token",
      );
    }
    return sandbox;
  }

  async #connect(sandbox: PortSandbox, port: number, options: ReachOptions): Promise<Tunnel | TorporError> {
    const { hosts, lifecycle } = this.api;
    if (sandbox.hostAddress === null) throw notFound();
    lifecycle.touch(sandbox.id);
    const { http } = hosts.at(sandbox.hostAddress);
    const url = `${http.baseUrl}/sandboxes/${sandbox.id}/ports/${port}${options.finite ? "?finite=1" : ""}`;
    const headers = { authorization: `Bearer ${hosts.token}` };
    try {
      const outcome = await Tunnel.open(http.fetch, url, { headers, signal: options.signal });
      return outcome instanceof Tunnel ? outcome : await answeredError(outcome);
    } catch (cause) {
      if (options.signal.aborted) throw cause;
      return new TorporError("unavailable", "the sandbox's host could not be reached", { cause });
    }
  }

  async #resume(sandbox: PortSandbox, deadlineMs: number, signal: AbortSignal): Promise<void> {
    const { id, state } = sandbox;
    if (state === "failed" || state === "lost") throw notFound();
    if (!sandbox.autoResume) {
      if (state === "paused") throw notFound();
      throw new Refusal(409, "The sandbox is being changed", 1);
    }
    let resume = this.#resumes.get(id);
    if (!resume) {
      resume = this.#startResume(sandbox).finally(() => this.#resumes.delete(id));
      this.#resumes.set(id, resume);
    }
    const over = new AbortController();
    const late = delay(Math.max(0, deadlineMs - performance.now()), AbortSignal.any([signal, over.signal]));
    try {
      await Promise.race([resume, late]);
    } finally {
      over.abort();
      late.catch(() => {});
    }
  }

  async #startResume({ id, teamId, state }: PortSandbox): Promise<void> {
    try {
      const started = await this.api.lifecycle.startResume(teamId, id);
      log("info", "sandbox_resumed_by_traffic", { sandbox_id: id, operation_id: started.operation?.id, state });
      await started.done;
    } catch (thrown) {
      // It is being created, or somebody else has it in hand: the next look tells.
      if (asTorporError(thrown).code !== "conflict") throw thrown;
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
    }
  }
}

/** Also for a paused one: clients of E2B take this for "not running". */
function notFound(): Refusal {
  return new Refusal(502, "The sandbox was not found");
}

async function answeredError(response: Response): Promise<TorporError> {
  const body = await response.json().catch(() => ({})) as { code?: ErrorCode; message?: string };
  return new TorporError(body.code ?? "internal", body.message ?? `the host answered ${response.status}`);
}

/** Ends at once when the signal aborts, with its reason. */
async function delay(ms: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  const onAbort = () => reject(signal.reason);
  signal.addEventListener("abort", onAbort);
  try {
    await promise;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}
