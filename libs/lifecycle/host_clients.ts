import type { Client } from "@connectrpc/connect";
import { HostAgentService } from "@torpor/proto/hostagent";
import type { SchedulerService } from "@torpor/proto/scheduler";
import { type CredentialsSource, openClient, type ServiceClient } from "@torpor/rpc";

/** A client of one host agent. */
export type HostClient = Client<typeof HostAgentService>;

/** A client of the scheduler. */
export type SchedulerClient = Client<typeof SchedulerService>;

/** Clients of host agents, one per address, opened when first asked for. Dispose it to close their connections. */
export class HostClients implements Disposable {
  #clients = new Map<string, ServiceClient<typeof HostAgentService>>();

  /** @param token TORPOR_INTERNAL_TOKEN. @param credentials for hosts at `https:` addresses. */
  constructor(private readonly token: string, private readonly credentials?: CredentialsSource) {}

  /** The client for a host's address (`unix:/path`, `http://host:port` or `https://host:port#peer`). */
  at(address: string): HostClient {
    let client = this.#clients.get(address);
    if (!client) {
      client = openClient(HostAgentService, { address, token: this.token, credentials: this.credentials });
      this.#clients.set(address, client);
    }
    return client;
  }

  [Symbol.dispose](): void {
    for (const client of this.#clients.values()) client[Symbol.dispose]();
    this.#clients.clear();
  }
}
