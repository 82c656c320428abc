import { domainsOf } from "@torpor/network";
import type { EgressProxy } from "../egress/types.ts";
import type { NetworkConfig, NetworkPolicy, Slot } from "../types.ts";
import { applyRuleset } from "./apply_ruleset.ts";
import { slotRuleset } from "./slot_ruleset.ts";

/** What a policy is put into effect with. */
export interface PolicyTarget {
  config: NetworkConfig;
  slot: Slot;
  /** Absent: sandboxes reach no domains by name. */
  egress?: Pick<EgressProxy, "setRules">;
}

/**
 * Lets a slot's guest reach what `policy` says. The rules are replaced in one transaction. Then the egress proxy learns its domains:
 * between the two the guest reaches by name what both the old and the new policy let through. Call it before the vCPUs run, and for
 * each change while they do.
 * @throws TorporError `unavailable`: call it again; until then the slot may be narrower than either policy, never wider than both.
 */
export async function applyPolicy({ config, slot, egress }: PolicyTarget, policy: NetworkPolicy): Promise<void> {
  await applyRuleset(slotRuleset(config, slot, policy), slot.namespace);
  const domains = domainsOf(policy);
  await egress?.setRules(slot, domains.length > 0 ? domains : undefined);
}
