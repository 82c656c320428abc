import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { SnapshotContents, SnapshotGeneration, SnapshotTable, VerifiedFile } from "@torpor/proto/torpor";
import { formatAge, formatBytes } from "../terminal/format.ts";
import type { Paint, Style } from "../terminal/paint.ts";
import { formatTable } from "../terminal/table.ts";

/** Cells of a bar that shows a share. */
const BAR_CELLS = 20;

/** What a snapshot consists of as a tree: its generations, and where the bytes of memory and disk are. */
export function contentsTree(title: string, contents: SnapshotContents, paint: Paint): string {
  const generations = new Map(contents.generations.map((one) => [one.snapshotId, one]));
  const parts: [string, string[][]][] = [
    [generationsTitle(contents.generations), contents.generations.map((one) => generationRow(one, paint))],
  ];
  for (const [name, table] of [["memory", contents.memory], ["disk", contents.disk]] as const) {
    if (table) parts.push([tableTitle(name, table), tableRows(table, generations, paint)]);
  }
  const { verified, knownDamage } = contents;
  if (verified.length > 0) parts.push([verifiedTitle(verified), verified.map((file) => verifiedRow(file, paint))]);
  else if (knownDamage.length > 0) {
    parts.push(["damage found by a verification", knownDamage.map((file) => verifiedRow(file, paint))]);
  }
  const lines = [paint("bold", title)];
  for (const [index, [heading, rows]] of parts.entries()) {
    const last = index === parts.length - 1;
    lines.push(`${last ? "└─" : "├─"} ${heading}`);
    const aligned = rows.length > 0 ? formatTable(rows).split("\n") : [];
    for (const [row, text] of aligned.entries()) {
      lines.push(`${last ? "   " : "│  "}${row === aligned.length - 1 ? "└─" : "├─"} ${text}`);
    }
  }
  return lines.join("\n");
}

/** True for a data file that a resume could not read as it was written. */
export function isDamaged({ verdict }: VerifiedFile): boolean {
  return verdict === "damaged" || verdict === "missing";
}

function verifiedTitle(files: VerifiedFile[]): string {
  const bytes = files.reduce((sum, file) => sum + Number(file.bytes), 0);
  const damaged = files.filter(isDamaged).length;
  const unchecked = files.filter(({ verdict }) => verdict === "unchecked").length;
  const result = damaged > 0
    ? `${damaged} damaged`
    : unchecked > 0
    ? `${unchecked} unchecked, the others good`
    : "all good";
  return `data: ${formatBytes(bytes)} read in ${files.length} file${files.length === 1 ? "" : "s"}, ${result}`;
}

function verifiedRow(file: VerifiedFile, paint: Paint): string[] {
  const style: Style = isDamaged(file) ? "red" : file.verdict === "good" ? "green" : "yellow";
  return [paint("cyan", file.snapshotId), file.file, formatBytes(Number(file.bytes)), paint(style, file.verdict)];
}

function generationsTitle(generations: SnapshotGeneration[]): string {
  const stored = generations.reduce((sum, one) => sum + Number(one.storedBytes), 0);
  return `${generations.length} generation${generations.length === 1 ? "" : "s"}, ${formatBytes(stored)} stored`;
}

function generationRow(one: SnapshotGeneration, paint: Paint): string[] {
  return [
    paint("cyan", one.snapshotId),
    one.committed ? `generation ${one.generation}` : paint("dim", "data only"),
    `${formatBytes(Number(one.storedBytes))} stored`,
    one.createdAt ? `${formatAge(timestampDate(one.createdAt))} ago` : "",
  ];
}

function tableTitle(name: string, table: SnapshotTable): string {
  return `${name}: ${formatBytes(Number(table.sizeBytes))} in ${countExtents(table.extents)}`;
}

function tableRows(table: SnapshotTable, generations: Map<string, SnapshotGeneration>, paint: Paint): string[][] {
  const rows = table.sources
    .toSorted((a, b) => Number(b.liveBytes - a.liveBytes))
    .map((source) => {
      const known = generations.get(source.snapshotId);
      const from = known?.committed ? ` (generation ${known.generation})` : "";
      const stored = Number(source.storedBytes);
      const live = stored > 0
        ? `, ${Math.round(Number(source.liveBytes) / stored * 100)} % of ${formatBytes(stored)}`
        : "";
      return bytesRow(
        paint("cyan", source.snapshotId) + from,
        source.liveBytes,
        table,
        `${countExtents(source.extents)}${live}`,
      );
    });
  if (table.zeroBytes > 0n) rows.push(bytesRow("zero", table.zeroBytes, table, "not stored"));
  if (table.baseBytes > 0n) rows.push(bytesRow("base image, or never written", table.baseBytes, table, "not stored"));
  return rows;
}

function bytesRow(name: string, bytes: bigint, table: SnapshotTable, detail: string): string[] {
  return [name, bar(Number(bytes) / Math.max(1, Number(table.sizeBytes))), formatBytes(Number(bytes)), detail];
}

function countExtents(extents: number): string {
  return `${extents} extent${extents === 1 ? "" : "s"}`;
}

/** What there is at all shows at least one filled cell. */
function bar(share: number): string {
  const filled = Math.min(BAR_CELLS, Math.max(share > 0 ? 1 : 0, Math.round(share * BAR_CELLS)));
  return "█".repeat(filled) + "░".repeat(BAR_CELLS - filled);
}
