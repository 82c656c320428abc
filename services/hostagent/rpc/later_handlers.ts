import type { ServiceImpl } from "@connectrpc/connect";
import { TorporError } from "@torpor/errors";
import type { HostAgentService } from "@torpor/proto/hostagent";

type LaterMethods =
  | "getSandboxMetrics"
  | "flushSandboxMetrics"
  | "flattenRootfs";

/** RPCs of the contract that this version does not have: they say so. */
export function laterHandlers(): Pick<ServiceImpl<typeof HostAgentService>, LaterMethods> {
  const unimplemented = (what: string) => () => {
    throw new TorporError("unimplemented", `this host agent does not have ${what} yet`);
  };
  return {
    getSandboxMetrics: unimplemented("sandbox metrics"),
    flushSandboxMetrics: unimplemented("sandbox metrics"),
    flattenRootfs: unimplemented("flattened root file systems"),
  };
}
