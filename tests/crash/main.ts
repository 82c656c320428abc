/**
 * Kills processes at every step, and plays random histories (docs/crash-tests.md). Progress goes to stderr, one JSON
 * object to stdout; exit code 1 when a limit is broken.
 *
 *     deno run --allow-all tests/crash/main.ts [--sequences N] [--seed N] [--case TEXT]…
 */
import { parseArgs } from "node:util";
import { caseName, CRASH_CASES } from "./matrix/cases.ts";
import { runMatrix } from "./matrix/run_matrix.ts";
import { runWorkers } from "./model/run_workers.ts";

/** Everything must agree again after so many passes of the reconciler. */
const MOST_PERIODS = 2;

const { values } = parseArgs({
  options: {
    sequences: { type: "string", default: "2000" },
    seed: { type: "string" },
    workers: { type: "string", default: String(Math.min(4, navigator.hardwareConcurrency)) },
    case: { type: "string", multiple: true, default: [] },
  },
});
const seed = Number(values.seed ?? crypto.getRandomValues(new Uint16Array(1))[0]);
const chosen = CRASH_CASES.filter((one) => values.case.every((text) => caseName(one).includes(text)));

/** Ends the run after the case under way, or with it the processes of histories: nothing must be left. */
const stopping = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(name, () => stopping.abort());

// One after the other: each uses all processors, and convergence is to be measured on a machine that has time for it.
const began = performance.now();
const matrix = chosen.length === 0 ? [] : await runMatrix(chosen, ({ name, periods, convergedMs, violations }) => {
  console.error(`${violations.length > 0 ? "WRONG" : "ok"} ${name}: ${periods} periods, ${convergedMs} ms`);
  for (const text of violations) console.error(`  ${text}`);
}, stopping.signal);
if (stopping.signal.aborted) Deno.exit(1);
const matrixMs = Math.round(performance.now() - began);
const model = await runWorkers(
  { sequences: Number(values.sequences), workers: Number(values.workers), seed },
  (done) => done % 100 === 0 && console.error(`${done} histories`),
  stopping.signal,
);
if (stopping.signal.aborted) Deno.exit(1);

const violations = matrix.flatMap(({ name, violations }) => violations.map((text) => `${name}: ${text}`));
const report = {
  cases: chosen.length,
  violations: violations.length,
  max_convergence_periods: Math.max(0, ...matrix.map(({ periods }) => periods)),
  max_convergence_ms: Math.max(0, ...matrix.map(({ convergedMs }) => convergedMs)),
  model_sequences: model.reduce((sum, { sequences }) => sum + sequences, 0),
  model_violations: model.reduce((sum, { violations }) => sum + violations.length, 0),
  model_seeds: model.map(({ seed }) => seed),
  matrix_ms: matrixMs,
  model_ms: Math.round(performance.now() - began) - matrixMs,
  details: [...violations, ...model.flatMap(({ violations }) => violations)],
};
console.log(JSON.stringify(report));
const broken = report.violations + report.model_violations > 0 || report.max_convergence_periods > MOST_PERIODS;
Deno.exitCode = broken ? 1 : 0;
