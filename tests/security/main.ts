/**
 * Attempts from inside of guests, then a churn that must leave nothing (docs/threat-model.md). Progress goes to stderr, one JSON
 * object to stdout; exit code 1 when something got through, a control failed or something leaked.
 *
 *     deno run --allow-all tests/security/main.ts [--quick] [--rounds N] [--seed N] [--attempt TEXT]…
 */
import { parseArgs } from "node:util";
import { Arena } from "./adversary/arena.ts";
import { ATTEMPTS } from "./adversary/attempts/mod.ts";
import { runAttempts } from "./adversary/run_attempts.ts";
import { runChurn } from "./churn/churn.ts";

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    rounds: { type: "string", default: "200" },
    seed: { type: "string" },
    attempt: { type: "string", multiple: true, default: [] },
  },
});
const seed = Number(values.seed ?? crypto.getRandomValues(new Uint16Array(1))[0]);
const chosen = ATTEMPTS.filter(({ name, quick }) =>
  (quick || !values.quick) && values.attempt.every((text) => name.includes(text))
);

/** Ends the run after the attempt or round under way: virtual machines and namespaces must not be left. */
const stopping = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(name, () => stopping.abort());
const { signal } = stopping;

const began = performance.now();
const results = await tryAll();
const attemptsMs = Math.round(performance.now() - began);
const churn = await runChurn({
  rounds: Number(values.rounds),
  seed,
  signal,
  onRound: (done, kind) => done % 10 === 0 && console.error(`${done} rounds; ${kind}`),
});
const breaches = results.flatMap(({ name, breach }) => breach === undefined ? [] : `${name}: ${breach}`);
const failedControls = results.flatMap(({ name, controlFailed }) =>
  controlFailed === undefined ? [] : `${name}: control: ${controlFailed}`
);
const report = {
  attempts: results.length,
  breaches: breaches.length,
  controls_failed: failedControls.length,
  churn_rounds: churn.rounds,
  churn_kinds: churn.kinds,
  churn_seed: churn.seed,
  churn_failures: churn.failures.length,
  leaks: churn.leaks.length,
  attempts_ms: attemptsMs,
  churn_ms: Math.round(performance.now() - began) - attemptsMs,
  details: [...breaches, ...failedControls, ...churn.failures, ...churn.leaks],
};
console.log(JSON.stringify(report));
Deno.exitCode = report.details.length > 0 || signal.aborted ? 1 : 0;

async function tryAll() {
  if (chosen.length === 0) return [];
  await using arena = await Arena.open();
  return await runAttempts(arena, chosen, ({ name, breach, controlFailed, ms }) => {
    console.error(`${breach ? "BREACH" : controlFailed ? "CONTROL" : "ok"} ${name}: ${ms} ms`);
    if (breach ?? controlFailed) console.error(`  ${breach ?? controlFailed}`);
  }, signal);
}
