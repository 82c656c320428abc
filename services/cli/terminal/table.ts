import { visibleWidth } from "./paint.ts";

/** Rows as aligned columns, two spaces apart. The first row is the header. */
export function formatTable(rows: string[][]): string {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, column) => widths[column] = Math.max(widths[column] ?? 0, visibleWidth(cell)));
  }
  return rows.map((row) =>
    row.map((cell, column) =>
      column === row.length - 1 ? cell : cell + " ".repeat(widths[column]! - visibleWidth(cell))
    )
      .join("  ").trimEnd()
  ).join("\n");
}
