import { TorporError } from "@torpor/errors";
import { isId } from "@torpor/ids";

/** Where a keyset page ended. */
export interface Position {
  createdAt: Date;
  id: string;
}

/** The cursor of the page after this row. */
export function writeCursor(row: Position): string {
  return btoa(`${row.createdAt.getTime()}.${row.id}`);
}

/** @param isRowId tells ids of the rows from other text. @throws `invalid_argument` (field `cursor`). */
export function readCursor(cursor: string, isRowId: (id: unknown) => id is string = isId): Position {
  try {
    const [time, id] = atob(cursor).split(".");
    const createdAt = new Date(Number(time));
    // Beyond these years a Date is written in a form that PostgreSQL does not read.
    const inRange = createdAt.getTime() >= 0 && createdAt.getTime() < Date.UTC(10_000, 0);
    if (isRowId(id) && time !== "" && inRange) return { createdAt, id };
  } catch (cause) {
    throw new TorporError("invalid_argument", "cursor is not one that this service gave out", {
      field: "cursor",
      cause,
    });
  }
  throw new TorporError("invalid_argument", "cursor is not one that this service gave out", { field: "cursor" });
}
