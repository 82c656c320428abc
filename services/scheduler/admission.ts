import type { HandlerContext } from "@connectrpc/connect";
import { TorporError } from "@torpor/errors";
import { SchedulerService } from "@torpor/proto/scheduler";
import { hostIdOfPeer, isControlPeer, TLS_CALLER, type TlsCaller } from "@torpor/rpc";

const { registerHost, heartbeat, enrollHost, renewHostCertificate } = SchedulerService.method;

/** A host that was away for longer than this needs a new token: its certificate may be anywhere by then, ms. */
const MAX_EXPIRED_MS = 30 * 86_400_000;

function pathOf({ name }: { name: string }): string {
  return `/${SchedulerService.typeName}/${name}`;
}

const HOST_PATHS = [registerHost, heartbeat].map(pathOf);

/**
 * Who may call what over TLS: everybody may enrol (the token decides), hosts report and renew their certificates, services
 * of the control plane do the rest.
 * @throws TorporError `unauthenticated`, `permission_denied`.
 */
export function admit({ peer, expiredPeer, expiredForMs }: TlsCaller, path: string): void {
  if (path === pathOf(enrollHost) || isControlPeer(peer)) return;
  const isHost = hostIdOfPeer(peer) !== undefined;
  if (path === pathOf(renewHostCertificate)) {
    const wasHost = hostIdOfPeer(expiredPeer) !== undefined && expiredForMs <= MAX_EXPIRED_MS;
    if (isHost || wasHost) return;
  } else if (isHost && HOST_PATHS.includes(path)) return;
  if (peer === "") throw new TorporError("unauthenticated", "no valid certificate was shown");
  throw new TorporError("permission_denied", `${peer} may not call this`);
}

/** A call about a host comes from that host, or from where the internal token is. @throws `permission_denied`. */
export function requireSelf(context: HandlerContext, hostId: string): void {
  const caller = context.values.get(TLS_CALLER);
  if (!caller || hostIdOfPeer(caller.peer) === hostId) return;
  throw new TorporError("permission_denied", `this is not for ${caller.peer}`, { field: "host_id" });
}

/** The host that renews its certificate. @throws `permission_denied` for a caller without one. */
export function renewingHost(context: HandlerContext): string {
  const caller = context.values.get(TLS_CALLER);
  const hostId = hostIdOfPeer(caller?.peer || (caller?.expiredPeer ?? ""));
  if (hostId !== undefined) return hostId;
  throw new TorporError("permission_denied", "only a host with a certificate can renew it");
}
