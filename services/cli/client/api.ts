import { join } from "@std/path";
import type { HomePaths } from "@torpor/config";
import { TorporError } from "@torpor/errors";
import { HostService, OperationService, SandboxService, SnapshotService, TraceService } from "@torpor/proto/torpor";
import { openAddressFetch, openClient, parseAddress, type ServiceClient } from "@torpor/rpc";
import { restAnswer } from "@torpor/sdk/rest_error";
import { deploymentPaths, recordedApiUrl } from "../deployment/deployment.ts";
import { readTextIfThere } from "../deployment/files.ts";

/** Which API the command line talks to, and as whom. */
export interface ApiTarget {
  url: string;
  key: string;
}

/** Lifecycle calls wait for QEMU; the server has deadlines of its own, this one only ends a wait for a dead server. */
const CALL_TIMEOUT_MS = 600_000;

/**
 * The API to use: `$TORPOR_URL` and `$TORPOR_API_KEY`, else what `up` recorded in the data directory.
 * @throws TorporError `unavailable` when there is neither.
 */
export async function apiTarget(): Promise<ApiTarget> {
  const paths = deploymentPaths();
  const local = await localApiTarget(paths);
  const url = Deno.env.get("TORPOR_URL") || local.url;
  const key = Deno.env.get("TORPOR_API_KEY") || local.key;
  if (url && key) return { url: url.replace(/\/$/, ""), key };
  throw new TorporError("unavailable", `no Torpor is set up in ${paths.home}`, {
    hint: `run ${join(".", "torpor")} up, or set TORPOR_URL and TORPOR_API_KEY`,
  });
}

/**
 * The API as the deployment's administrator: the key is `$TORPOR_INTERNAL_TOKEN`, else the data directory's internal token.
 * @throws TorporError `permission_denied` when there is neither; `unavailable` as {@linkcode apiTarget}.
 */
export async function adminTarget(): Promise<ApiTarget> {
  const paths = deploymentPaths();
  const { url } = await apiTarget();
  const token = Deno.env.get("TORPOR_INTERNAL_TOKEN") || (await readTextIfThere(paths.internalToken))?.trim();
  if (token) return { url, key: token };
  throw new TorporError("permission_denied", "this is for the administrator of the deployment", {
    hint: `run it where ${paths.internalToken} can be read, or set TORPOR_INTERNAL_TOKEN`,
  });
}

/** The API of a data directory, as far as it has been set up. */
export async function localApiTarget(paths: HomePaths): Promise<Partial<ApiTarget>> {
  return { url: await recordedApiUrl(paths), key: (await readTextIfThere(paths.apiKey))?.trim() };
}

/** The clients of the public services, closed together. */
export interface Api extends Disposable {
  target: ApiTarget;
  sandboxes: ServiceClient<typeof SandboxService>;
  snapshots: ServiceClient<typeof SnapshotService>;
  operations: ServiceClient<typeof OperationService>;
  traces: ServiceClient<typeof TraceService>;
  hosts: ServiceClient<typeof HostService>;
  /** A request to a REST path, with the key; an error answer is thrown as TorporError. */
  rest(path: string, init?: RequestInit): Promise<Response>;
}

/** Opens the clients of `target`. */
export function openApi(target: ApiTarget): Api {
  const options = { address: target.url, token: target.key, timeoutMs: CALL_TIMEOUT_MS };
  const clients = {
    sandboxes: openClient(SandboxService, options),
    snapshots: openClient(SnapshotService, options),
    operations: openClient(OperationService, options),
    traces: openClient(TraceService, options),
    hosts: openClient(HostService, options),
  };
  const http = openAddressFetch(parseAddress(target.url));
  return {
    target,
    ...clients,
    rest: async (path, init = {}) => {
      const headers = new Headers(init.headers);
      headers.set("authorization", `Bearer ${target.key}`);
      return await restAnswer(http.fetch(`${http.baseUrl}${path}`, { ...init, headers }));
    },
    [Symbol.dispose]: () => {
      for (const client of Object.values(clients)) client[Symbol.dispose]();
      http[Symbol.dispose]();
    },
  };
}
