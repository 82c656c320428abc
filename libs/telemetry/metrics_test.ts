import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { TorporError } from "@torpor/errors";
import { INSTRUMENTS, METRIC_ATTRIBUTES, observed, prometheusSeries, timed } from "./mod.ts";
import { MetricsReceiver } from "./testing/metrics_receiver.ts";

const PROGRAM = `
import { count, observed, timed, underWay } from "${import.meta.resolve("./mod.ts")}";
import { TorporError } from "@torpor/errors";
count("torpor.guest.reclaimed", 4096, { "torpor.hook.step": "fstrim" });
count("torpor.guest.reclaimed", 1, { "torpor.hook.step": "fstrim" });
count("torpor.guest.reclaimed", -5, { "torpor.hook.step": "drop_caches" });
const single = { "torpor.placement": "single" };
await timed("torpor.placement.duration", single, () => 1);
await timed("torpor.placement.duration", single, () => { throw new TorporError("no_capacity", "full"); }).catch(() => {});
using active = underWay("torpor.db.queries.active");
let looks = 0;
await using hosts = observed(["torpor.hosts"], async (observe) => {
  await Promise.resolve();
  if (looks++ === 0) throw new Error("the database is away");
  observe("torpor.hosts", looks, { "torpor.state": "ready" });
});
// Ends when the test has seen enough.
await Deno.stdin.read(new Uint8Array(1));
`;

async function startProgram(receiver: MetricsReceiver, directory: string): Promise<Deno.ChildProcess> {
  const file = join(directory, "program.ts");
  await Deno.writeTextFile(file, PROGRAM);
  const config = fromFileUrl(new URL("../../deno.json", import.meta.url));
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-check", "--config", config, "-A", file],
    env: receiver.environment("reconciler", 100),
    stdin: "piped",
    stderr: "piped",
  }).spawn();
}

Deno.test("a process exports its counters, histograms and gauges, and outlives a look that fails", async () => {
  await using receiver = new MetricsReceiver();
  const directory = await Deno.makeTempDir();
  try {
    const program = await startProgram(receiver, directory);
    const hosts = await receiver.waitFor(({ name, points }) => name === "torpor.hosts" && points[0]!.asDouble! >= 3);
    assertEquals([hosts.kind, hosts.points[0]!.attributes], ["gauge", { "torpor.state": "ready" }]);
    await program.stdin.close();
    const { code, stderr } = await program.output();
    assertEquals(code, 0);
    assertMatch(new TextDecoder().decode(stderr), /"level":"warn".*"event":"metrics_not_observed"/);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
  const newest = (name: string) => receiver.received.findLast((metric) => metric.name === name)!;
  const reclaimed = newest("torpor.guest.reclaimed");
  assertEquals([reclaimed.service, reclaimed.unit], ["reconciler", "By"]);
  assertEquals(reclaimed.points.map(({ attributes, asDouble }) => [attributes["torpor.hook.step"], asDouble]), [
    ["fstrim", 4097],
  ]);
  const placements = newest("torpor.placement.duration");
  const outcomes = placements.points.map(({ attributes, count }) => [attributes["torpor.outcome"], count]);
  assertEquals(outcomes.sort(), [["no_capacity", 1], ["ok", 1]]);
  assertEquals(placements.points[0]!.explicitBounds, [...INSTRUMENTS["torpor.placement.duration"].buckets!]);
  const active = receiver.received.filter(({ name }) => name === "torpor.db.queries.active");
  // One while the program ran; it gave it back before it ended, which flushes.
  assertEquals([active[0]!.points[0]!.asDouble, active.at(-1)!.points[0]!.asDouble], [1, 0]);
});

Deno.test("without an exporter, measuring changes neither results nor errors", async () => {
  assertEquals(await timed("torpor.placement.duration", { "torpor.placement": "group" }, () => 7), 7);
  await assertRejects(
    () => timed("torpor.sandbox.pause.duration", {}, () => Promise.reject(new TorporError("no_space", "full"))),
    TorporError,
    "full",
  );
  await using _hosts = observed(["torpor.hosts"], () => Promise.reject(new Error("never asked")));
});

Deno.test("metrics keep the rules: names, units, attributes that cannot grow, buckets that rise", () => {
  for (const [name, { kind, unit, attributes, description, ...rest }] of Object.entries(INSTRUMENTS)) {
    assertMatch(name, /^torpor(\.[a-z][a-z0-9_]*)+$/);
    assert(["s", "By"].includes(unit) || /^\{[a-z]+\}$/.test(unit), `${name}: ${unit}`);
    assert(description.length > 0 && !description.endsWith("."), name);
    const buckets = "buckets" in rest ? rest.buckets! : [];
    assertEquals([...buckets].sort((a, b) => a - b), [...buckets], name);
    assertEquals(kind === "histogram", buckets.length > 0, name);
    for (const attribute of attributes) {
      assert(attribute in METRIC_ATTRIBUTES, attribute);
      assert(!/(\.|_)id$/.test(attribute), `${name}: ${attribute}`);
    }
  }
});

Deno.test("Prometheus has units and kinds as suffixes", () => {
  assertEquals(prometheusSeries("torpor.sandbox.resume.duration"), [
    "torpor_sandbox_resume_duration_seconds_bucket",
    "torpor_sandbox_resume_duration_seconds_sum",
    "torpor_sandbox_resume_duration_seconds_count",
  ]);
  assertEquals(prometheusSeries("torpor.guest.reclaimed"), ["torpor_guest_reclaimed_bytes_total"]);
  assertEquals(prometheusSeries("torpor.reconciler.repairs"), ["torpor_reconciler_repairs_total"]);
  assertEquals(prometheusSeries("torpor.hosts"), ["torpor_hosts"]);
});

Deno.test("docs/metrics.md has a row for each metric, with its unit and attributes", async () => {
  const text = await Deno.readTextFile(new URL("../../docs/metrics.md", import.meta.url));
  const rows = text.split("\n").filter((line) => line.startsWith("| `torpor."));
  const expected = Object.entries(INSTRUMENTS).map(([name, { unit, attributes }]) => {
    const shown = unit.startsWith("{") ? "" : ` ${unit}`;
    return `\`${name}\`${shown} | ${attributes.map((attribute) => `\`${attribute}\``).join(", ")}`.trim();
  });
  const documented = rows.map((row) => {
    const [, metric, , attributes] = row.split("|").map((cell) => cell.trim());
    return `${metric} | ${attributes}`.trim();
  });
  assertEquals(documented, expected);
});
