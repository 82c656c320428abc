import { isId } from "@torpor/ids";

/** Source or destination of a copy: a local path, or a path in a sandbox. */
export interface CopyEnd {
  sandboxId?: string;
  path: string;
}

/** Parses `ID:PATH` or a local path. `./abc:def` is local, as is whatever has no sandbox id before its first colon. */
export function parseCopyEnd(text: string): CopyEnd {
  const colon = text.indexOf(":");
  const sandboxId = text.slice(0, Math.max(colon, 0));
  return isId(sandboxId) ? { sandboxId, path: text.slice(colon + 1) } : { path: text };
}
