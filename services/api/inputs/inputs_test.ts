import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import type { z } from "zod";
import { TorporError } from "@torpor/errors";
import { execInput, execStreamInput, processInput } from "./exec.ts";
import { fileInput, listDirectoryInput, writeFileInput } from "./file.ts";
import { parseInput } from "./parse.ts";
import {
  createSandboxInput,
  forkSandboxInput,
  listSandboxesInput,
  pauseSandboxInput,
  resumeSandboxInput,
} from "./sandbox.ts";
import {
  checkpointInput,
  collectSnapshotsInput,
  createSnapshotInput,
  listSnapshotsInput,
  updateSnapshotInput,
} from "./snapshot.ts";

const schemas: Record<string, z.ZodType> = {
  createSandboxInput,
  listSandboxesInput,
  resumeSandboxInput,
  pauseSandboxInput,
  forkSandboxInput,
  createSnapshotInput,
  updateSnapshotInput,
  checkpointInput,
  listSnapshotsInput,
  collectSnapshotsInput,
  execInput,
  execStreamInput,
  processInput,
  fileInput,
  listDirectoryInput,
  writeFileInput,
};

for (const [name, schema] of Object.entries(schemas)) {
  Deno.test(`${name} accepts or refuses anything with invalid_argument, and what it accepts is accepted again`, () => {
    const names = fc.constantFrom(
      "cmd",
      "args",
      "env",
      "path",
      "memory_mb",
      "metadata",
      "stdin",
      "limit",
      "name",
      "count",
      "expires_in_sec",
      "__proto__",
    );
    fc.assert(
      fc.property(fc.oneof(fc.anything(), fc.dictionary(names, fc.anything())), (value) => {
        try {
          const input = parseInput(schema, value);
          assertEquals(parseInput(schema, input), input);
        } catch (thrown) {
          if (!(thrown instanceof TorporError) || thrown.code !== "invalid_argument") throw thrown;
        }
      }),
      { numRuns: 300 },
    );
  });
}

Deno.test("defaults", () => {
  assertEquals(parseInput(createSandboxInput, {}), { env: {}, metadata: {}, auto_resume: false });
  assertEquals(parseInput(forkSandboxInput, {}), { count: 1 });
  const { reclaim } = parseInput(pauseSandboxInput, { reclaim: { fstrim_ms: 5 } });
  assertEquals(reclaim, { fstrim_ms: 5, sync_ms: 0, drop_caches_ms: 0, compact_memory_ms: 0 });
});

Deno.test("limits count bytes of UTF-8, at the limit and beyond", () => {
  const path = (text: string) => parseInput(fileInput, { path: text }).path;
  assertEquals(path("ü".repeat(2048)).length, 2048);
  const error = assertThrows(() => path("ü".repeat(2049)), TorporError);
  assertEquals([error.code, error.field], ["invalid_argument", "path"]);
});

Deno.test("a command and a sandbox's environment of the largest size fit one frame of the guest channel", () => {
  const env = Object.fromEntries(Array.from({ length: 256 }, (_, i) => [`V${i}`.padEnd(8, "_"), "x".repeat(56)]));
  parseInput(createSandboxInput, { env });
  const args = Array.from({ length: 1024 }, () => "y".repeat(35));
  parseInput(execInput, { cmd: "c", args });
  // Each argument adds 3 bytes of framing, each variable 8; the frame's own fields stay under 1 KiB.
  const bytes = 256 * (8 + 56 + 8) + 1024 * (35 + 3) + 1024;
  assertEquals(bytes < 68 * 1024, true, `${bytes}`);
});
