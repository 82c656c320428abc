import { create } from "@bufbuild/protobuf";
import { assertEquals } from "@std/assert";
import { SandboxInfoSchema, SnapshotInfoSchema } from "@torpor/proto/hostagent";
import { decideOutcome, decideSnapshot, type HostView, toKeptSizes } from "./outcome.ts";

const snapshot = { snapshotId: "s", generation: 1, createdAtUnixMs: 1n };

function sandbox(status: string, reason = "") {
  return create(SandboxInfoSchema, {
    status,
    reason,
    accelerator: "tcg",
    snapshot: status === "paused" ? snapshot : {},
  });
}

const none = undefined;
const failed = { operation: "failed", error: { code: "no_space", message: "full" } } as const;

/** kind, what the host says, the path, the reason on the sandbox, the operation's error code. */
const CASES: [Parameters<typeof decideOutcome>[0], HostView, string[] | undefined, string?, string?][] = [
  ["create", { operation: "succeeded", sandbox: sandbox("running") }, ["running"]],
  ["create", { operation: "unknown", sandbox: sandbox("running") }, ["running"]],
  ["create", { operation: "succeeded", sandbox: sandbox("paused") }, ["running"]],
  ["create", { operation: "running" }, none],
  ["create", { operation: "unknown", sandbox: sandbox("starting") }, none],
  ["create", { operation: "unknown" }, ["failed"], "unavailable", "unavailable"],
  ["create", { ...failed }, ["failed"], "no_space", "no_space"],
  ["create", { operation: "succeeded", sandbox: sandbox("failed", "vm_gone") }, ["failed"], "vm_gone", "vm_gone"],
  ["pause", { operation: "succeeded", sandbox: sandbox("paused") }, ["paused"], ""],
  ["pause", { ...failed, sandbox: sandbox("paused") }, ["paused"], ""],
  ["pause", { operation: "unknown", sandbox: sandbox("paused", "vm_gone") }, ["paused"], "vm_gone", "vm_gone"],
  ["pause", { operation: "running", sandbox: sandbox("pausing") }, none],
  ["pause", { operation: "unknown", sandbox: sandbox("running") }, ["running"], none, "pause_failed"],
  ["pause", { ...failed, sandbox: sandbox("running") }, ["running"], none, "no_space"],
  ["pause", { operation: "unknown" }, ["running", "failed"], "vm_gone", "vm_gone"],
  [
    "pause",
    { ...failed, sandbox: sandbox("failed", "pager_failed") },
    ["running", "failed"],
    "pager_failed",
    "no_space",
  ],
  ["resume", { operation: "succeeded", sandbox: sandbox("running") }, ["running"]],
  ["resume", { operation: "succeeded", sandbox: sandbox("paused") }, ["running"]],
  ["resume", { operation: "running", sandbox: sandbox("paused") }, none],
  ["resume", { operation: "unknown", sandbox: sandbox("paused") }, ["paused"], none, "resume_failed"],
  ["resume", { ...failed, sandbox: sandbox("paused") }, ["paused"], none, "no_space"],
  ["resume", { operation: "unknown" }, ["paused", "failed"], "snapshot_missing", "snapshot_missing"],
];

Deno.test("what an operation has come to, by what its host says", () => {
  for (const [kind, view, path, reason, error] of CASES) {
    const outcome = decideOutcome(kind, view);
    assertEquals(
      [outcome?.path, outcome?.changes?.reason, outcome?.error?.code],
      [path, reason, error],
      `${kind}: ${view.operation} ${view.sandbox?.status} ${view.sandbox?.reason}`,
    );
  }
});

Deno.test("what a checkpoint has come to: the snapshot decides, the sandbox goes back to where it was", () => {
  const kept = toKeptSizes(create(SnapshotInfoSchema, { snapshotId: "s", sizeBytes: 5n }), 7n);
  assertEquals([kept.sizeBytes, kept.stoppedUs, "id" in kept], [5n, 7n, false]);
  const cases: [HostView, string?][] = [
    [{ operation: "succeeded", sandbox: sandbox("running"), kept }],
    [{ operation: "unknown", sandbox: sandbox("running"), kept }],
    // A snapshot that is committed outlives its sandbox, which the inventory judges.
    [{ ...failed, kept }],
    [{ ...failed, sandbox: sandbox("running") }, "no_space"],
    [{ operation: "unknown", sandbox: sandbox("paused") }, "unavailable"],
    [{ operation: "succeeded", sandbox: sandbox("running") }, "unavailable"],
  ];
  for (const before of ["running", "paused"] as const) {
    for (const [view, error] of cases) {
      const outcome = decideSnapshot(before, view)!;
      assertEquals([outcome.path, outcome.error?.code, outcome.kept], [[before], error, error ? undefined : kept]);
    }
    assertEquals(decideSnapshot(before, { operation: "running", kept }), undefined);
    assertEquals(decideSnapshot(before, { operation: "unknown", sandbox: sandbox("pausing") }), undefined);
  }
});
