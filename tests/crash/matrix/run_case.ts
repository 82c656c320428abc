import { caseName, type CrashCase, neverBegun } from "./cases.ts";
import { converge } from "./convergence.ts";
import type { Deployment } from "./deployment.ts";
import { Subject } from "./subject.ts";

/** What a case has come to. */
export interface CaseResult {
  name: string;
  /** Passes of the reconciler until everything agreed. */
  periods: number;
  /** From the kill until everything agreed, ms; the restart of the victim and passes included. */
  convergedMs: number;
  /** What was wrong; empty: nothing. */
  violations: string[];
}

/** How long the verb may take to reach the point, ms. */
const REACH_TIMEOUT_MS = 120_000;

/** Kills one process at one step, lets it be started again, and looks whether everything comes to rest as it must. */
export async function runCase(deployment: Deployment, subject: Subject, one: CrashCase): Promise<CaseResult> {
  const result: CaseResult = { name: caseName(one), periods: 0, convergedMs: 0, violations: [] };
  try {
    await prepare(subject, one);
    const before = await sandboxIds(deployment);
    await deployment.crash.arm(one.point);
    const asked = ask(deployment, subject, one);
    if (!await reached(deployment, asked)) return { ...result, violations: ["the point was not reached"] };
    const killedAt = performance.now();
    if (one.then) await deployment.crash.arm(one.then);
    await asked;
    const { periods, disagreements } = await converge(deployment);
    result.periods = periods;
    result.convergedMs = Math.round(performance.now() - killedAt);
    result.violations.push(...disagreements);
    if (one.then && !await deployment.crash.disarm()) result.violations.push("the second point was not reached");
    if (disagreements.length === 0) result.violations.push(...await checkContents(deployment, subject, one, before));
  } catch (thrown) {
    result.violations.push(String(thrown));
  }
  await deployment.crash.disarm();
  return result;
}

/** A verb begins with the sandbox as the verb wants it; a pager is there only after a resume. */
async function prepare(subject: Subject, { verb, point }: CrashCase): Promise<void> {
  if (verb === "create") return;
  await subject.run();
  if (verb !== "resume" && point.victim === "pager") {
    await subject.mark();
    await subject.sleep({ wake: true });
  }
  await subject.mark();
  if (verb === "resume") await subject.sleep({ wake: false });
}

/** Asks for the verb. How it is answered is not judged here: the answer may be lost with who should give it. */
async function ask(deployment: Deployment, subject: Subject, { verb }: CrashCase): Promise<void> {
  const sandbox = () => `/v1/sandboxes/${subject.id}`;
  const calls = {
    create: () => deployment.call("POST", "/v1/sandboxes", Subject.spec),
    pause: () => deployment.call("POST", `${sandbox()}/pause`),
    resume: () => deployment.call("POST", `${sandbox()}/resume`),
    snapshot: () => deployment.call("POST", "/v1/snapshots", { sandbox_id: subject.id, name: "crash" }),
    fork: () => deployment.call("POST", `${sandbox()}/fork`, { count: 2 }),
    delete: () => deployment.call("DELETE", sandbox()),
  };
  try {
    await calls[verb]();
  } catch (thrown) {
    if (!(thrown instanceof TypeError) && !(thrown instanceof Deno.errors.Http)) throw thrown;
  }
}

async function reached({ crash }: Deployment, asked: Promise<void>): Promise<boolean> {
  let answered = false;
  asked.then(() => answered = true, () => answered = true);
  const deadline = performance.now() + REACH_TIMEOUT_MS;
  while (!crash.fired()) {
    if (answered || performance.now() > deadline) return crash.fired();
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return true;
}

async function checkContents(
  deployment: Deployment,
  subject: Subject,
  one: CrashCase,
  before: ReadonlySet<string>,
): Promise<string[]> {
  const { verb, point } = one;
  const wrong: string[] = [];
  if (verb !== "create") wrong.push(...await subject.check(point.victim === "vmm"));
  if (verb === "delete" && !neverBegun(one) && await isThere(deployment, subject)) wrong.push("it was not deleted");
  for (const id of await sandboxIds(deployment)) {
    if (before.has(id)) continue;
    const { json } = await deployment.call("GET", `/v1/sandboxes/${id}`);
    if (json.state === "running" && verb === "fork") wrong.push(...await subject.checkChild(id));
    if (json.state === "running" && verb === "create") await deployment.run(id, "true");
    await deployment.demand("DELETE", `/v1/sandboxes/${id}`);
  }
  const { snapshots } = await deployment.demand("GET", "/v1/snapshots");
  for (const { snapshot_id } of snapshots) await deployment.demand("DELETE", `/v1/snapshots/${snapshot_id}`);
  return [...wrong, ...(await converge(deployment)).disagreements.map((text) => `after deleting: ${text}`)];
}

async function isThere(deployment: Deployment, subject: Subject): Promise<boolean> {
  return (await sandboxIds(deployment)).has(subject.id);
}

async function sandboxIds({ database }: Deployment): Promise<Set<string>> {
  const rows = await database.sql<{ id: string }[]>`select id from sandboxes where state <> 'deleted'`;
  return new Set(rows.map(({ id }) => id));
}
