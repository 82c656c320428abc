import { join } from "@std/path";
import { REPOSITORY } from "../deployment/repository.ts";
import { readTextIfThere } from "../deployment/files.ts";
import { runLines } from "../tool/run_tool.ts";
import { readCSummary } from "./c_summary.ts";
import { crashTests } from "./crash_tests.ts";
import { readJunit } from "./junit.ts";
import { kvmLane } from "./kvm_lane.ts";
import { addOutcomes, NOTHING, type Outcome, single } from "./outcome.ts";
import { securityTests } from "./security_tests.ts";
import { LONG_KINDS, TEST_KINDS, testFiles } from "./test_files.ts";

/** Where and with what the suites run. */
export interface SuiteContext {
  /** Temporary directory of this run. */
  directory: string;
  /** Where C test programs are built. */
  buildDirectory: string;
  env: Record<string, string>;
  onLine: (line: string) => void;
  /** For lines that are to stay. */
  onFact: (line: string) => void;
}

/** What a test prints for whoever reads the run: how many chains were checked, and with which seeds. */
const FACT = /^((guest_)?(chains_|chain_seeds)|model_seed)/;

/** Lets no test hang. */
const DEADLINE = join(REPOSITORY, "libs/testing/test_deadline.ts");

/** What host agents in the tests' own process log. */
const LOG_LINE = /^(\{"time":|-+ (post-test )?output)/;

/** The lines of `deno test` that tell which file's tests follow, and that one has failed. */
const FILE_LINE = /^running \d+ tests? from (.+)$/;
const FAILED_LINE = /^(.+) \.\.\. FAILED/;

/** A part of the tests. */
export interface Suite {
  name: string;
  /** Suites of one lane run one after the other, lanes beside each other; those without a lane run before all others. */
  lane?: "long" | "others";
  run(context: SuiteContext): Promise<Outcome>;
}

/**
 * All suites, cheap ones first, or those that the filters choose: a filter is a suite's name or part of a test file's
 * path. The KVM lane, all crash cases and all security tests take too long to be of all: they have to be named.
 */
export async function chooseSuites(filters: readonly string[]): Promise<Suite[]> {
  const files = await Promise.all(TEST_KINDS.map(async (kind) => [kind, await testFiles(kind)] as const));
  const fixed: Suite[] = [
    {
      name: "format",
      run: (context) => denoCheck(["fmt", "--check"], "formatted as deno fmt does", context),
    },
    { name: "lint", run: (context) => denoCheck(["lint", "--quiet"], "no lint findings", context) },
    { name: "types", run: (context) => denoCheck(["check", "--quiet", "."], "types fit", context) },
    { name: "ffi", run: (context) => cTests("ffi", context) },
    { name: "guest", run: (context) => cTests("services/guest", context) },
  ];
  const denoSuites = (chosen: (file: string) => boolean): Suite[] =>
    files.map(([name, all]) => ({
      name,
      lane: LONG_KINDS.includes(name) ? "long" : "others",
      run: (context) => denoTests(name, all.filter(chosen), context),
    }));
  const usual = [...fixed, ...denoSuites(() => true)];
  if (filters.length === 0) return usual;
  const all = [...usual, { name: "kvm", run: kvmLane }, { name: "crash", run: crashTests }, {
    name: "security",
    run: securityTests,
  }];
  const named = all.filter(({ name }) => filters.includes(name));
  const parts = filters.filter((filter) => !all.some(({ name }) => name === filter));
  if (parts.length === 0) return named;
  const chosen = (file: string) => parts.some((part) => file.includes(part));
  const present = files.filter(([, all]) => all.some(chosen)).map(([name]) => name as string);
  return [...named, ...denoSuites(chosen).filter(({ name }) => present.includes(name))];
}

async function denoCheck(args: string[], name: string, context: SuiteContext): Promise<Outcome> {
  const lines: string[] = [];
  const { success } = await run([Deno.execPath(), ...args], context, (line) => lines.push(line));
  return single(name, success ? undefined : lines.join("\n"));
}

async function cTests(directory: string, context: SuiteContext): Promise<Outcome> {
  const build = join(context.buildDirectory, directory.replaceAll("/", "-"));
  await Deno.mkdir(build, { recursive: true });
  const lines: string[] = [];
  const make = ["make", "--no-print-directory", "-C", directory, "test", `BUILD_DIR=${build}`];
  const { success } = await run(make, context, (line) => {
    lines.push(line);
    context.onLine(line);
  });
  return readCSummary(lines, success);
}

/** Runs test files one after the other. */
async function denoTests(name: string, files: readonly string[], context: SuiteContext): Promise<Outcome> {
  if (files.length === 0) return NOTHING;
  const report = join(context.directory, `${name}.xml`);
  // With --quiet, what a test prints is not shown: facts would be lost.
  const quiet = name === "property" || name === "control" ? [] : ["--quiet"];
  const options = [...quiet, "--allow-all", "--no-check", `--preload=${DEADLINE}`, `--junit-path=${report}`];
  const lines: string[] = [];
  let file = "";
  const fileOf = new Map<string, string>();
  const { success } = await run([Deno.execPath(), "test", ...options, ...files], context, (line) => {
    lines.push(line);
    file = FILE_LINE.exec(line)?.[1] ?? file;
    const failed = FAILED_LINE.exec(line)?.[1];
    if (failed !== undefined) fileOf.set(failed, file);
    if (FACT.test(line)) context.onFact(line);
    else if (!LOG_LINE.test(line)) context.onLine(line);
  });
  const xml = await readTextIfThere(report);
  const outcome = xml === undefined ? NOTHING : readJunit(xml, fileOf);
  if (success === (outcome.failed === 0)) return outcome;
  // It crashed, or a file could not be loaded: the report alone would hide that.
  return addOutcomes(outcome, single(`${name} tests ran to their end`, lines.slice(-40).join("\n")));
}

async function run(argv: string[], context: SuiteContext, onLine: (line: string) => void) {
  return await runLines(argv, { cwd: REPOSITORY, env: { ...context.env, NO_COLOR: "1" } }, onLine);
}
