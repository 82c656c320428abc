import { TorporError } from "@torpor/errors";
import { readAll } from "../read_all.ts";

/**
 * Reads a whole body of at most `maxBytes`.
 * @throws TorporError `payload_too_large`, before reading it when Content-Length says so.
 */
export async function readCapped(request: Request, maxBytes: number): Promise<Uint8Array<ArrayBuffer>> {
  if (Number(request.headers.get("content-length") ?? 0) > maxBytes) throw tooLarge(maxBytes);
  if (request.body === null) return new Uint8Array();
  return await readAll(request.body, maxBytes, () => tooLarge(maxBytes));
}

function tooLarge(maxBytes: number): TorporError {
  return new TorporError("payload_too_large", `the body must have at most ${maxBytes} bytes`, { field: "body" });
}
