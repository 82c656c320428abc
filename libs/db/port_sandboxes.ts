import { named, type Queryable } from "./database.ts";
import type { SandboxState } from "./sandboxes.ts";

/** What a request to a port of a sandbox depends on. */
export interface PortSandbox {
  id: string;
  teamId: string;
  state: SandboxState;
  accelerator: string;
  hostId: string | null;
  /** Of its host; null when it has none. */
  hostAddress: string | null;
  autoResume: boolean;
  publicTraffic: boolean;
  trafficToken: string;
}

/** The sandbox that a request to a port names, whatever its team: who may reach it the sandbox itself says. */
export async function findPortSandbox(sql: Queryable, id: string): Promise<PortSandbox | undefined> {
  const [row] = await named("find_port_sandbox", () =>
    sql<PortSandbox[]>`
    select sandboxes.id, team_id, sandboxes.state, accelerator, host_id, hosts.address as host_address, auto_resume, public_traffic,
      traffic_token
    from sandboxes left join hosts on hosts.id = host_id
    where sandboxes.id = ${id}`);
  return row;
}
