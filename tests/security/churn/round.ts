import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { eventually } from "@torpor/testing/hostagent";
import { Layout } from "../../../services/hostagent/storage/layout.ts";
import type { Random } from "../../property/harness/random.ts";
import { upTo } from "../up_to.ts";
import type { Churn } from "./churn.ts";

/** What happened to the sandbox of a round, and who was killed meanwhile. */
export type RoundKind = `${Course}, ${Victim} killed`;

const COURSES = ["create", "pause", "pause and resume", "two pauses and resumes"] as const;
type Course = typeof COURSES[number];

/** Often nobody. */
const VICTIMS = ["nobody", "nobody", "agent", "VMM", "pager"] as const;
type Victim = typeof VICTIMS[number];

/** A round's calls take about this long, ms: who is killed is killed somewhere in between. */
const LONGEST_WAIT_MS = 700;

/** A call may meet an agent that was killed, or is only just being started. */
const DESTROY_TIMEOUT_MS = 60_000;

/**
 * One sandbox from its creation to its end.
 * @param onFailure told of calls that failed though nobody was killed.
 */
export async function playRound(churn: Churn, random: Random, onFailure: (text: string) => void): Promise<RoundKind> {
  const course = random.pick(COURSES);
  const victim = random.pick(VICTIMS);
  const waitMs = random.between(0, LONGEST_WAIT_MS);
  const sandboxId = newId();
  const life = live(churn, sandboxId, course).catch((error) => {
    // What a call says whose agent or VMM is killed under it is tried out by the crash tests.
    if (!(error instanceof TorporError) || victim === "nobody") onFailure(`${course}: ${error}`);
  });
  if (victim !== "nobody") {
    await upTo(waitMs, life);
    await kill(churn, sandboxId, victim);
  }
  await life;
  if (victim === "agent") await churn.startAgent();
  await destroy(churn, sandboxId);
  return `${course}, ${victim} killed`;
}

async function live({ agent: { client }, snapshotId }: Churn, sandboxId: string, course: Course): Promise<void> {
  await client.createSandbox({ sandboxId, snapshotId });
  const pauses = { create: 0, pause: 1, "pause and resume": 1, "two pauses and resumes": 2 }[course];
  for (let i = 0; i < pauses; i++) {
    await client.pauseSandbox({ sandboxId });
    if (course !== "pause") await client.resumeSandbox({ sandboxId });
  }
}

async function kill(churn: Churn, sandboxId: string, victim: Exclude<Victim, "nobody">): Promise<void> {
  if (victim === "agent") return await churn.killAgent();
  const pid = await pidOf(churn.home, sandboxId, victim);
  if (pid === undefined) return;
  try {
    Deno.kill(pid, "SIGKILL");
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error; // It has just ended.
  }
}

/** Of a running sandbox, by its record: a VMM that was started ahead does not carry its id. Undefined: it does not run now. */
async function pidOf(home: string, sandboxId: string, victim: "VMM" | "pager"): Promise<number | undefined> {
  try {
    const { vm } = JSON.parse(await Deno.readTextFile(new Layout(home).sandbox(sandboxId).runningRecord));
    return victim === "VMM" ? vm?.vmm.pid : vm?.pager?.pid;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Until nobody knows it any more. */
async function destroy({ agent: { client } }: Churn, sandboxId: string): Promise<void> {
  await eventually(
    async () => {
      try {
        await client.destroySandbox({ sandboxId });
        const { sandboxes } = await client.listSandboxes({});
        return sandboxes.some((sandbox) => sandbox.sandboxId === sandboxId) ? undefined : true;
      } catch (error) {
        if (error instanceof TorporError) return undefined;
        throw error;
      }
    },
    `the end of ${sandboxId}`,
    DESTROY_TIMEOUT_MS,
  );
}
