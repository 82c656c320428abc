import type { Sandbox, SandboxState } from "@torpor/proto/torpor";
import type { Api } from "./api.ts";

/** The caller's sandboxes in these states (none: all but deleted ones), page by page, newest first. */
export async function* listSandboxes(api: Api, states: SandboxState[]): AsyncIterable<Sandbox> {
  let cursor = "";
  do {
    const page = await api.sandboxes.listSandboxes({ states, cursor, pageSize: 500 });
    yield* page.sandboxes;
    cursor = page.nextCursor;
  } while (cursor !== "");
}
