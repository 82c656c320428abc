import type { z } from "zod";
import type { CreateHostTokenResponse, GetHostResponse, Host, RemoveHostResponse } from "@torpor/proto/scheduler";
import type { createHostTokenInput } from "../inputs/host.ts";
import { requireAdmin } from "../keys/admin.ts";
import type { Caller } from "../keys/caller.ts";
import type { Api } from "./api.ts";

const DENIED = "only an administrator changes hosts";

/**
 * Makes a token by which one host joins.
 * @throws TorporError `permission_denied` but for an administrator; `already_exists` when a host has the name.
 */
export async function createHostToken(
  api: Api,
  caller: Caller,
  input: z.output<typeof createHostTokenInput>,
): Promise<CreateHostTokenResponse> {
  requireAdmin(caller, DENIED);
  return await api.scheduler.createHostToken({ name: input.name, expiresInSec: input.expires_in_sec });
}

/** One host and what it holds. @param host id or name. @throws TorporError `host_not_found`. */
export async function describeHost(api: Api, host: string): Promise<GetHostResponse> {
  return await api.scheduler.getHost({ host });
}

/**
 * Opens a host, closes it to new sandboxes, or has it drained.
 * @throws TorporError `permission_denied` but for an administrator; `host_not_found`.
 */
export async function setHostPlacement(
  api: Api,
  caller: Caller,
  host: string,
  placement: "open" | "cordoned" | "draining",
): Promise<Host> {
  requireAdmin(caller, DENIED);
  return (await api.scheduler.setHostPlacement({ host, placement })).host!;
}

/**
 * Takes a host out for good.
 * @throws TorporError `permission_denied` but for an administrator; `host_not_found`; `conflict` when it holds something.
 */
export async function removeHost(api: Api, caller: Caller, host: string, force: boolean): Promise<RemoveHostResponse> {
  requireAdmin(caller, DENIED);
  return await api.scheduler.removeHost({ host, force });
}
