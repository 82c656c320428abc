import { assert, assertEquals } from "@std/assert";
import { SANDBOX_STATES, type SandboxState } from "@torpor/db";
import {
  canTransition,
  isLive,
  isTransitional,
  ranWhenLost,
  stateAroundSnapshot,
  TRANSITIONAL_STATES,
  TRANSITIONS,
} from "./mod.ts";

Deno.test("every state reaches deleted, and deleted is the end", () => {
  for (const state of SANDBOX_STATES) {
    const reached = new Set<SandboxState>([state]);
    for (const from of reached) for (const to of TRANSITIONS[from]) reached.add(to);
    assert(reached.has("deleted"), `${state} never reaches deleted`);
  }
  assertEquals(TRANSITIONS.deleted, []);
});

Deno.test("delete is possible in every state but the last two", () => {
  for (const state of SANDBOX_STATES) {
    assertEquals(canTransition(state, "deleting"), state !== "deleting" && state !== "deleted", state);
  }
});

Deno.test("every state but pending is entered from another, and none from itself", () => {
  for (const state of SANDBOX_STATES) {
    const from = SANDBOX_STATES.filter((other) => canTransition(other, state));
    assertEquals(from.length > 0, state !== "pending", state);
    assert(!from.includes(state), state);
  }
});

Deno.test("every transitional state leads to a resting one besides deleting", () => {
  for (const state of TRANSITIONAL_STATES) {
    assert(TRANSITIONS[state].some((to) => !isTransitional(to)), state);
  }
});

Deno.test("a running sandbox is saved before it is paused, and restored before it runs", () => {
  assertEquals(canTransition("running", "paused"), false);
  assertEquals(canTransition("paused", "running"), false);
  assertEquals(TRANSITIONS.pausing, ["paused", "running", "deleting", "lost"]);
  assertEquals(TRANSITIONS.resuming, ["running", "paused", "deleting"]);
});

Deno.test("a checkpoint leaves a sandbox as it was, and only a running one takes commands meanwhile", () => {
  assertEquals(TRANSITIONS.snapshotting, ["running", "paused", "deleting", "lost"]);
  assertEquals(SANDBOX_STATES.filter((state) => canTransition(state, "snapshotting")), ["running", "paused"]);
  const [ran, slept] = [{ accelerator: "tcg" }, { accelerator: "" }];
  assertEquals([stateAroundSnapshot(ran), stateAroundSnapshot(slept)], ["running", "paused"]);
  assertEquals(SANDBOX_STATES.filter((state) => isLive({ state, ...ran })), ["running", "snapshotting"]);
  assertEquals(SANDBOX_STATES.filter((state) => isLive({ state, ...slept })), ["running"]);
});

Deno.test("what runs or is saved is lost with its host; all that can be lost can come back", () => {
  const lost = SANDBOX_STATES.filter((state) => canTransition(state, "lost"));
  assertEquals(lost, ["running", "pausing", "paused", "snapshotting"]);
  assertEquals(TRANSITIONS.lost, ["running", "paused", "failed", "deleting"]);
  assertEquals([ranWhenLost({ accelerator: "tcg" }), ranWhenLost({ accelerator: "" })], [true, false]);
});
