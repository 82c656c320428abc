import { z } from "@hono/zod-openapi";
import { guestPath, userName } from "./text.ts";

/** Largest file of the unary ReadFile and WriteFile, bytes. Larger ones are streamed. */
export const MAX_UNARY_FILE_BYTES = 16 * 1024 * 1024;

const fileMode = z.int().min(0).max(0o7777);

/** One path inside a guest, as one of its users sees it. */
export const fileInput = z.strictObject({ path: guestPath, user: userName });

export const writeFileInput = z.strictObject({
  path: guestPath,
  user: userName,
  /** Permission bits; 0: keep an existing file's, else 0644. */
  mode: fileMode.default(0),
});

export const listDirectoryInput = z.strictObject({
  path: guestPath,
  user: userName,
  depth: z.int().min(1).max(32).default(1),
});

export const removeFileInput = z.strictObject({
  path: guestPath,
  user: userName,
  recursive: z.boolean().default(false),
});
