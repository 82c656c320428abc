import type { ErrorCode } from "@torpor/errors";
import type { FakeMethod } from "@torpor/testing/fake_host";
import fc from "fast-check";

/** Sandboxes that actions name by their position; forks and spawns make more. */
export const SANDBOXES = 3;

/** Hosts that actions name by their position. */
export const HOSTS = 2;

/** Processes that take requests on, as several apis do. */
export const LIFECYCLES = 2;

/** What a service can die in the middle of, and the state in which that leaves the sandbox. */
export const ABANDONED = {
  pause: "pausing",
  resume: "resuming",
  delete: "deleting",
  snapshot: "snapshotting",
} as const;

/** One of {@linkcode ABANDONED}. */
export type AbandonedVerb = keyof typeof ABANDONED;

const METHODS: FakeMethod[] = [
  "createSandbox",
  "pauseSandbox",
  "resumeSandbox",
  "destroySandbox",
  "createSnapshot",
  "deleteSnapshot",
];
const CODES: ErrorCode[] = ["unavailable", "deadline_exceeded", "pause_failed", "no_space", "vm_gone"];

const sandbox = fc.nat({ max: SANDBOXES - 1 });
const host = fc.nat({ max: HOSTS - 1 });
const by = fc.nat({ max: LIFECYCLES - 1 });
const kind = <T extends string>(...names: T[]) => fc.constantFrom(...names);

/** One thing that a client, a host, a network or a killer does. */
const action = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: kind("create"), by }) },
  { weight: 10, arbitrary: fc.record({ do: kind("pause", "resume", "delete"), sandbox, by }) },
  { weight: 4, arbitrary: fc.record({ do: kind("snapshot"), sandbox, name: kind("a", "b"), by }) },
  { weight: 2, arbitrary: fc.record({ do: kind("spawn", "delete snapshot"), by }) },
  { weight: 2, arbitrary: fc.record({ do: kind("fork"), sandbox, count: fc.integer({ min: 1, max: 3 }), by }) },
  {
    weight: 3,
    // A reply that is lost is a call that fails after its work.
    arbitrary: fc.record({
      do: kind("inject"),
      host,
      method: fc.constantFrom(...METHODS),
      code: fc.constantFrom(...CODES),
      afterWork: fc.boolean(),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: kind("call arrives again"), host, call: fc.nat({ max: 1_000 }) }) },
  { weight: 1, arbitrary: fc.record({ do: kind("vm dies", "agent pauses"), sandbox }) },
  { weight: 2, arbitrary: fc.record({ do: kind("service dies"), verb: kind(...verbs()), sandbox }) },
  { weight: 2, arbitrary: fc.record({ do: kind("reconcile", "snapshots expire") }) },
  { weight: 2, arbitrary: fc.record({ do: kind("host vanishes", "host falls silent", "agent restarts"), host }) },
  { weight: 1, arbitrary: fc.record({ do: kind("host comes back"), host }) },
);

function verbs(): AbandonedVerb[] {
  return Object.keys(ABANDONED) as AbandonedVerb[];
}

/** See {@linkcode history}. */
export type Action = typeof action extends fc.Arbitrary<infer T> ? T : never;

/** Groups run one after the other, the actions of a group at the same time. */
export const history = fc.array(fc.array(action, { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 10 });
