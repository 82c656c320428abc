import { join } from "@std/path";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { HostAgentService } from "@torpor/proto/hostagent";
import { openAddressFetch, openClient, serve, type ServiceClient } from "@torpor/rpc";
import { execHandlers } from "../../exec/mod.ts";
import { dataRoutes, fileHandlers } from "../../files/mod.ts";
import { PortConnections, portRoutes } from "../../network/ports/mod.ts";
import type { SandboxAccess } from "../../sandbox/access.ts";
import { type GuestChannel, openGuestChannel } from "../mod.ts";
import { type NativeAgent, startNativeAgent } from "./native_agent.ts";

/** The exec and file RPCs and routes, served for one "sandbox": the real agent as a program of this machine. */
export interface GuestService extends AsyncDisposable {
  sandboxId: string;
  agent: NativeAgent;
  channel: GuestChannel;
  client: ServiceClient<typeof HostAgentService>;
  /** Requests `path` of the service over HTTP. */
  fetch(path: string, init?: RequestInit): Promise<Response>;
  /** Path of the route for a file's content. */
  fileRoute(path: string, query?: Record<string, string>): string;
  /** Connections to the "sandbox's" ports. */
  connections: PortConnections;
  /** How many uses of the channel have not ended. */
  uses(): number;
}

/** @param environment of the sandbox. */
export async function startGuestService(environment: Record<string, string> = {}): Promise<GuestService> {
  await using starting = new AsyncDisposableStack();
  const agent = starting.use(await startNativeAgent());
  const signal = AbortSignal.timeout(30_000);
  const channel = starting.use(await openGuestChannel({ socketPath: agent.socketPath, signal }));
  const sandboxId = newId();
  const access = new SingleSandbox(sandboxId, channel, environment);
  const listen = { transport: "unix", path: join(agent.directory, "../service.sock") } as const;
  const [files, ports] = [dataRoutes(access), portRoutes(access)];
  starting.use(
    await serve({
      listen,
      routes: (router) => router.service(HostAgentService, { ...execHandlers(access), ...fileHandlers(access) }),
      http: async (request) => await files(request) ?? await ports(request),
    }),
  );
  const client = starting.use(openClient(HostAgentService, { address: listen, timeoutMs: 60_000 }));
  const http = starting.use(openAddressFetch(listen));
  const running = starting.move();
  return {
    sandboxId,
    agent,
    channel,
    client,
    fetch: (path, init) => http.fetch(`${http.baseUrl}${path}`, init),
    fileRoute: (path, query = {}) => `/sandboxes/${sandboxId}/files?${new URLSearchParams({ path, ...query })}`,
    connections: access.connections,
    uses: () => access.uses,
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

class SingleSandbox implements SandboxAccess {
  uses = 0;
  readonly connections = new PortConnections();
  readonly #id: string;
  readonly #channel: GuestChannel;
  readonly #environment: Record<string, string>;

  constructor(id: string, channel: GuestChannel, environment: Record<string, string>) {
    this.#id = id;
    this.#channel = channel;
    this.#environment = environment;
  }

  async channel(sandboxId: string): Promise<GuestChannel> {
    if (sandboxId !== this.#id) throw new TorporError("sandbox_not_found", "no such sandbox");
    return this.#channel;
  }

  async use<T>(sandboxId: string, work: (channel: GuestChannel) => Promise<T>): Promise<T> {
    const channel = await this.channel(sandboxId);
    this.uses++;
    try {
      return await work(channel);
    } finally {
      this.uses--;
    }
  }

  ports(sandboxId: string): PortConnections {
    if (sandboxId !== this.#id) throw new TorporError("sandbox_not_found", "no such sandbox");
    return this.connections;
  }

  env(sandboxId: string): Record<string, string> {
    if (sandboxId !== this.#id) throw new TorporError("sandbox_not_found", "no such sandbox");
    return this.#environment;
  }
}
