import { create } from "@bufbuild/protobuf";
import { assertEquals } from "@std/assert";
import { SnapshotContentsSchema } from "@torpor/proto/torpor";
import { contentsJson } from "../client/snapshot_view.ts";
import { contentsTree } from "./contents_tree.ts";

const [NEW, OLD] = ["n".repeat(20), "o".repeat(20)];

Deno.test("a snapshot's contents as a tree: generations, and bytes by source, largest first", () => {
  const contents = create(SnapshotContentsSchema, {
    generations: [
      { snapshotId: NEW, generation: 2, committed: true, storedBytes: 2n * 1024n ** 2n },
      { snapshotId: OLD, generation: 1, committed: false, storedBytes: 8n * 1024n ** 2n },
    ],
    memory: {
      sizeBytes: 16n * 1024n ** 2n,
      extents: 5,
      zeroBytes: 8n * 1024n ** 2n,
      sources: [
        { snapshotId: NEW, liveBytes: 2n * 1024n ** 2n, extents: 1, storedBytes: 2n * 1024n ** 2n },
        { snapshotId: OLD, liveBytes: 6n * 1024n ** 2n, extents: 3, storedBytes: 8n * 1024n ** 2n },
      ],
    },
    disk: { sizeBytes: 1n << 30n, extents: 1, baseBytes: 1n << 30n },
    verified: [
      { snapshotId: NEW, file: "memory.data", verdict: "good", bytes: 2n * 1024n ** 2n },
      { snapshotId: OLD, file: "memory.data", verdict: "damaged", bytes: 8n * 1024n ** 2n },
    ],
  });
  assertEquals(contentsTree("web", contents, (_style, text) => text).split("\n"), [
    "web",
    "├─ 2 generations, 10 MiB stored",
    `│  ├─ ${NEW}  generation 2  2.0 MiB stored`,
    `│  └─ ${OLD}  data only     8.0 MiB stored`,
    "├─ memory: 16 MiB in 5 extents",
    `│  ├─ ${OLD}                 ████████░░░░░░░░░░░░  6.0 MiB  3 extents, 75 % of 8.0 MiB`,
    `│  ├─ ${NEW} (generation 2)  ███░░░░░░░░░░░░░░░░░  2.0 MiB  1 extent, 100 % of 2.0 MiB`,
    "│  └─ zero                                 ██████████░░░░░░░░░░  8.0 MiB  not stored",
    "├─ disk: 1.0 GiB in 1 extent",
    "│  └─ base image, or never written  ████████████████████  1.0 GiB  not stored",
    "└─ data: 10 MiB read in 2 files, 1 damaged",
    `   ├─ ${NEW}  memory.data  2.0 MiB  good`,
    `   └─ ${OLD}  memory.data  8.0 MiB  damaged`,
  ]);
});

Deno.test("what is known to be damaged is shown without a verification; a manifest that is no JSON is null", () => {
  const contents = create(SnapshotContentsSchema, {
    manifestJson: "{",
    knownDamage: [{ snapshotId: OLD, file: "disk.raw", verdict: "missing", bytes: 0n }],
  });
  assertEquals(contentsTree("web", contents, (_style, text) => text).split("\n"), [
    "web",
    "├─ 0 generations, 0 B stored",
    "└─ damage found by a verification",
    `   └─ ${OLD}  disk.raw  0 B  missing`,
  ]);
  assertEquals(contentsJson(contents).manifest, null);
  assertEquals(contentsJson(contents).known_damage, [{
    snapshot_id: OLD,
    file: "disk.raw",
    verdict: "missing",
    bytes: 0n,
  }]);
});
