import { TorporError } from "@torpor/errors";
import { isId, newId } from "@torpor/ids";
import { readIfPresent, writeDurably } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";

/**
 * This host's id: made at the first start and kept in the data directory, so that a restarted agent is the same host.
 * @throws TorporError `config_invalid` when the file holds something else: another id would orphan every snapshot here.
 */
export async function hostIdentity(layout: Layout): Promise<string> {
  const text = await readIfPresent(layout.hostId);
  if (text === undefined) {
    const id = newId();
    await writeDurably(layout.hostId, id + "\n");
    return id;
  }
  const id = text.trim();
  if (isId(id)) return id;
  throw new TorporError("config_invalid", `${layout.hostId} holds no host id`, {
    hint: "restore the file; the control plane knows this host's id",
  });
}
