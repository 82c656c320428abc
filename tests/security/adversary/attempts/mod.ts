import type { Attempt } from "../attempt.ts";
import { channelAttempts } from "./channel.ts";
import { exhaustingAttempts } from "./exhausting.ts";
import { flowingAttempts } from "./flowing.ts";
import { forbiddenAttempts } from "./forbidden_ranges.ts";
import { forgingAttempts } from "./forging.ts";
import { hostAttempts, tenantAttempts } from "./reaching.ts";
import { resolvingAttempts } from "./resolving.ts";

/** All attempts. What may cost the intruder's guest something comes last. */
export const ATTEMPTS: readonly Attempt[] = [
  ...forbiddenAttempts,
  ...hostAttempts,
  ...tenantAttempts,
  ...forgingAttempts,
  ...resolvingAttempts,
  ...flowingAttempts,
  ...channelAttempts,
  ...exhaustingAttempts,
];
