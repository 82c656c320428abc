import { assertEquals, assertLess } from "@std/assert";
import { newId } from "@torpor/ids";
import { formatManifest } from "@torpor/snapshot";
import { findProgram } from "../host/programs.ts";
import { createEmptyDisk, createWritableDisk } from "../storage/disk.ts";
import type { Layout } from "../storage/layout.ts";
import { composeDisk } from "./disk_image.ts";
import { storeAsDifference } from "./disk_difference.ts";
import { SnapshotReferences } from "./references.ts";
import type { FoundSnapshot } from "./sweep.ts";
import { withLayout, writeSnapshot } from "./testing/write_snapshot.ts";

const SIZE_MIB = 256;

/** Runs a program of e2fsprogs; its exit code and what it says. */
async function run(program: string, ...args: string[]): Promise<{ code: number; text: string }> {
  const command = new Deno.Command(await findProgram(program, "e2fsprogs"), { args, stdin: "null" });
  const { code, stdout, stderr } = await command.output();
  return { code, text: new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr) };
}

/** A snapshot with a given file as its disk. */
async function withDisk(layout: Layout, disk: string, parentId: string | null): Promise<FoundSnapshot> {
  const snapshot = await writeSnapshot(layout, { id: newId(), sandboxId: newId(), sources: ["a".repeat(20)] });
  const { manifest } = snapshot;
  const paths = layout.snapshot(manifest.snapshot_id);
  await Deno.rename(disk, paths.disk);
  const { size, blocks } = await Deno.stat(paths.disk);
  const files = { ...manifest.files, disk: { bytes: size, allocated_bytes: (blocks ?? 0) * 512 } };
  const complete = { ...manifest, parent_id: parentId, files };
  await Deno.writeTextFile(paths.manifest, formatManifest(complete));
  return { ...snapshot, manifest: complete };
}

Deno.test("a real file system stored as a difference is put together again without a fault", async () => {
  await withLayout(async (layout) => {
    await Deno.mkdir(layout.staging, { recursive: true });
    const references = new SnapshotReferences();
    const held: FoundSnapshot[] = [];
    using _held = references.watch(() => held);
    const [first, second, composed, file] = ["first", "second", "composed", "file"].map((name) =>
      `${layout.home}/${name}`
    );
    await createWritableDisk(first!, SIZE_MIB);
    const content = crypto.getRandomValues(new Uint8Array(65_536));
    const large = new Uint8Array(24 * 2 ** 20);
    for (let at = 0; at < large.length; at += content.length) large.set(content, at);
    await Deno.writeFile(file!, large);
    await run("debugfs", "-w", "-R", `write ${file} before`, first!);
    await Deno.copyFile(first!, second!);
    await Deno.writeFile(file!, content);
    await run("debugfs", "-w", "-R", `write ${file} after`, second!);
    const base = await withDisk(layout, first!, null);
    const changed = await withDisk(layout, second!, base.manifest.snapshot_id);
    held.push(base, changed);
    const whole = changed.manifest.files.disk.allocated_bytes;
    const before = await Deno.readFile(layout.snapshot(changed.manifest.snapshot_id).disk);

    const saved = await storeAsDifference({ layout, references }, { snapshot: changed, base });
    assertEquals(saved > 0, true);
    assertLess(changed.manifest.files.disk.allocated_bytes, whole / 20);

    await createEmptyDisk(composed!, SIZE_MIB * 2 ** 20);
    await composeDisk(layout, changed.manifest, composed!);
    assertEquals(
      await crypto.subtle.digest("SHA-256", await Deno.readFile(composed!)),
      await crypto.subtle.digest("SHA-256", before),
    );
    const check = await run("e2fsck", "-fn", composed!);
    assertEquals([check.code, check.text], [0, check.text]);
    await run("debugfs", "-R", `dump after ${file}`, composed!);
    assertEquals(await Deno.readFile(file!), content);
    // Holes stay holes.
    assertLess((await Deno.stat(composed!)).blocks! * 512, 40 * 2 ** 20);
  });
});
