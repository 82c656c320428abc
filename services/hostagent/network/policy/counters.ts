import { z } from "zod";
import { runNft } from "./apply_ruleset.ts";

/** What has been dropped for one reason. */
export interface Dropped {
  packets: number;
  bytes: number;
}

const listing = z.object({
  nftables: z.array(z.object({
    counter: z.object({ name: z.string(), table: z.string(), packets: z.number(), bytes: z.number() }).optional(),
  })),
});

/**
 * What the rules of a table have dropped, by reason, since it was made.
 * @param namespace a slot's; absent: this process's own.
 * @throws TorporError `unavailable`.
 */
export async function readDropped(table: string, namespace?: string): Promise<Record<string, Dropped>> {
  const { nftables } = listing.parse(JSON.parse(await runNft(["-j", "list", "counters"], namespace)));
  const dropped: Record<string, Dropped> = {};
  for (const { counter } of nftables) {
    if (counter?.table !== table) continue;
    const sum = dropped[counter.name] ??= { packets: 0, bytes: 0 };
    sum.packets += counter.packets;
    sum.bytes += counter.bytes;
  }
  return dropped;
}
