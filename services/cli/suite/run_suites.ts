import { join } from "@std/path";
import type { HomePaths } from "@torpor/config";
import { buildDatabaseDriver } from "../deployment/database_driver.ts";
import { buildImages } from "../deployment/images.ts";
import { removeIfThere } from "../deployment/files.ts";
import { buildNative } from "../deployment/native.ts";
import { TEST_PACKAGES } from "../deployment/packages.ts";
import { providePackages } from "../deployment/up.ts";
import { formatMs } from "../terminal/format.ts";
import type { Progress } from "../terminal/progress.ts";
import { findAndEndLeftovers, machineState, RUN_VARIABLE } from "./leftovers.ts";
import { addOutcomes, NOTHING, type Outcome, single } from "./outcome.ts";
import { chooseSuites, type Suite, type SuiteContext } from "./suites.ts";

/** The result of one suite. */
export interface SuiteResult {
  name: string;
  ms: number;
  outcome: Outcome;
}

/**
 * Runs tests from nothing: installs Debian packages, builds native code and images into the cache, then runs the suites
 * in a directory of their own, which is deleted afterwards, and looks for what they left behind.
 */
export async function runSuites(
  paths: HomePaths,
  filters: readonly string[],
  progress: Progress,
): Promise<SuiteResult[]> {
  await providePackages(progress, TEST_PACKAGES);
  const native = await progress.step("native code", (report) => buildNative(paths, report));
  await progress.step("database driver", buildDatabaseDriver);
  await progress.step("guest images", (report) => buildImages(paths, report));
  const suites = await chooseSuites(filters);
  const before = machineState();
  const run = crypto.randomUUID();
  const directory = await makeRunDirectory(paths);
  const context = {
    directory,
    buildDirectory: join(paths.cache, "test"),
    env: {
      TORPOR_CACHE: paths.cache,
      TORPOR_HOME: join(directory, "home"),
      TORPOR_LIB_DIR: native,
      TMPDIR: directory,
      [RUN_VARIABLE]: run,
    },
  };
  const results: SuiteResult[] = [];
  try {
    const inOrder = async (some: readonly Suite[]) => {
      for (const suite of some) results.push(await runSuite(suite, context, progress));
    };
    const lanes = Map.groupBy(suites, ({ lane }) => lane);
    await inOrder(lanes.get(undefined) ?? []);
    lanes.delete(undefined);
    await Promise.all([...lanes.values()].map(inOrder));
  } finally {
    const started = performance.now();
    const left = await findAndEndLeftovers(run, directory, before);
    await removeIfThere(directory);
    const outcome = single("the tests leave nothing behind", left.length > 0 ? left.join("\n") : undefined);
    results.push({ name: "leftovers", ms: performance.now() - started, outcome });
  }
  return results;
}

async function runSuite(
  suite: Suite,
  context: Omit<SuiteContext, "onLine" | "onFact">,
  progress: Progress,
): Promise<SuiteResult> {
  const started = performance.now();
  const outcome = await progress.step(
    `tests: ${suite.name}`,
    (report) =>
      suite.run({
        ...context,
        onLine: (line) => line.trim() && report(`${suite.name}: ${line}`),
        onFact: (line) => progress.note(`  ${line}`),
      }),
  );
  for (const { name, message } of outcome.failures) progress.note(`FAILED ${suite.name}: ${name}\n${indent(message)}`);
  const ms = performance.now() - started;
  progress.note(`  ${suite.name}: ${outcome.passed} passed, ${outcome.failed} failed in ${formatMs(ms)}`);
  return { name: suite.name, ms, outcome };
}

/** Short, since unix sockets below it have at most 107 bytes; open, since the database server runs as another user. */
async function makeRunDirectory(paths: HomePaths): Promise<string> {
  const parent = join(paths.home, "tmp");
  await Deno.mkdir(parent, { recursive: true });
  for (const directory of [paths.home, parent]) await Deno.chmod(directory, 0o711);
  const directory = join(parent, `t${crypto.randomUUID().slice(0, 4)}`);
  await Deno.mkdir(directory);
  await Deno.chmod(directory, 0o711);
  return directory;
}

/** The outcome of all. */
export function sumResults(results: readonly SuiteResult[]): Outcome {
  return results.reduce((sum, { outcome }) => addOutcomes(sum, outcome), NOTHING);
}

function indent(text: string): string {
  return text.replace(/^/gm, "    ");
}
