import type { CrashPoint, Victim } from "./crash_point.ts";

/** What a client asks for when the process dies. */
export type Verb = "create" | "pause" | "resume" | "snapshot" | "fork" | "delete";

/** One process killed at one step of one verb. */
export interface CrashCase {
  verb: Verb;
  point: CrashPoint;
  /**
   * A second process, which dies while the reconciler repairs what the first has left. Its point is armed when the
   * first one was reached.
   */
  then?: CrashPoint;
}

/** `pause · api · after db.begin`: how people and `--case` name it. */
export function caseName({ verb, point, then }: CrashCase): string {
  const step = ({ service, span, phase, victim }: CrashPoint) => {
    const where = victim === service ? span : `${span} of ${service}`;
    return `${victim} ${phase === "begin" ? "before" : "after"} ${where}`;
  };
  return `${verb}: ${step(point)}${then ? `, then ${step(then)}` : ""}`;
}

/** The steps that a verb takes in the host agent, in their order. */
const HOST_STEPS: Record<Verb, readonly string[]> = {
  create: ["sandbox.create", "create.disk", "create.spawn_vmm", "create.start_vcpus", "create.boot"],
  pause: [
    "sandbox.pause",
    "pause.prepare_guest",
    "pause.stop",
    "pause.device_state",
    "pause.dirty_scan",
    "pause.export_memory",
    "pause.disk",
    "pause.commit",
    "pause.release",
  ],
  resume: [
    "sandbox.resume",
    "resume.verify",
    "resume.disk",
    "resume.spawn_pager",
    "resume.spawn_vmm",
    "resume.load_device_state",
    "resume.start_vcpus",
    "resume.guest_hello",
  ],
  snapshot: [
    "sandbox.snapshot",
    "checkpoint.copy_memory",
    "checkpoint.stop",
    "checkpoint.disk",
    "checkpoint.device_state",
    "checkpoint.last_round",
    "checkpoint.go_on",
  ],
  fork: ["checkpoint.stop", "checkpoint.go_on", "resume.join_base", "resume.load_device_state", "resume.guest_hello"],
  delete: ["sandbox.destroy"],
};

/** While the host is at these, other processes die: in the middle of its work. */
const MIDDLE: Record<Verb, string> = {
  create: "create.boot",
  pause: "pause.export_memory",
  resume: "resume.load_device_state",
  snapshot: "checkpoint.device_state",
  fork: "resume.guest_hello",
  delete: "sandbox.destroy",
};

/** Steps at which there is a VMM, and after a resume a pager. */
const VM_STEPS: Record<Verb, readonly string[]> = {
  create: ["create.start_vcpus", "create.boot"],
  pause: [
    "pause.prepare_guest",
    "pause.stop",
    "pause.device_state",
    "pause.export_memory",
    "pause.commit",
    "pause.release",
  ],
  resume: ["resume.load_device_state", "resume.start_vcpus", "resume.guest_hello"],
  snapshot: ["checkpoint.copy_memory", "checkpoint.device_state", "checkpoint.go_on"],
  fork: ["checkpoint.device_state", "resume.load_device_state", "resume.guest_hello"],
  delete: ["sandbox.destroy"],
};

/** What the api writes for a verb, in this order: a statement or a transaction each. Between them lies all else. */
const API_STEPS: Record<Verb, readonly [string, ...string[]]> = {
  create: ["db.begin_create", "db.record_placement", "db.finish_create"],
  pause: ["db.begin_pause", "db.finish_pause"],
  resume: ["db.begin_resume", "db.record_placement", "db.finish_resume"],
  snapshot: ["db.begin", "db.finish_operation"],
  fork: ["db.begin", "db.begin_children", "db.close_fork"],
  delete: ["db.begin_delete", "db.finish_delete"],
};

/** What the scheduler writes. */
const SCHEDULER_STEPS: Partial<Record<Verb, string>> = {
  create: "db.place_at_once",
  resume: "db.place_at_once",
  fork: "db.place_group",
};

const VERBS = Object.keys(HOST_STEPS) as Verb[];
const PHASES = ["begin", "end"] as const;

function at(service: CrashPoint["service"], span: string, phase: CrashPoint["phase"], victim: Victim = service) {
  return { service, span, phase, victim };
}

function casesOf(verb: Verb): CrashCase[] {
  const points: CrashPoint[] = [
    ...API_STEPS[verb].flatMap((span) => PHASES.map((phase) => at("api", span, phase))),
    at("hostagent", MIDDLE[verb], "begin", "api"),
    ...HOST_STEPS[verb].map((span) => at("hostagent", span, "begin")),
    at("hostagent", HOST_STEPS[verb].at(-1)!, "end"),
    ...VM_STEPS[verb].map((span) => at("hostagent", span, "begin", "vmm")),
    ...(verb === "create" ? [] : VM_STEPS[verb].map((span) => at("hostagent", span, "begin", "pager"))),
  ];
  const scheduler = SCHEDULER_STEPS[verb];
  if (scheduler) points.push(...PHASES.map((phase) => at("scheduler", scheduler, phase)));
  // The reconciler has something to do only when somebody else has died before.
  const abandoned = at("api", API_STEPS[verb][0], "end");
  const repair = verb === "fork" ? "db.close_fork" : "db.finish_operation";
  return [
    ...points.map((point) => ({ verb, point })),
    ...PHASES.map((phase) => ({ verb, point: abandoned, then: at("reconciler", repair, phase) })),
  ];
}

/** Whether the api dies before anything was written: then nothing was asked for, as far as anybody knows. */
export function neverBegun({ verb, point }: CrashCase): boolean {
  return point.victim === "api" && point.span === API_STEPS[verb][0] && point.phase === "begin";
}

/** All cases. */
export const CRASH_CASES: readonly CrashCase[] = VERBS.flatMap(casesOf);

/** Few of them, of each verb and each victim at least one, for the everyday tests. */
export const SHORT_CASES: readonly CrashCase[] = [
  ["create", "api before db.finish_create"],
  ["pause", "hostagent before pause.commit"],
  ["pause", "vmm before pause.export_memory of hostagent"],
  ["resume", "scheduler after db.place_at_once"],
  ["resume", "pager before resume.guest_hello of hostagent"],
  ["snapshot", "hostagent before checkpoint.device_state"],
  ["fork", "api after db.begin_children"],
  ["delete", "api after db.begin_delete, then reconciler before db.finish_operation"],
].map(([verb, step]) => CRASH_CASES.find((one) => caseName(one) === `${verb}: ${step}`)!);
