/**
 * Host agents in network namespaces of their own, for tests that cut a host off: real processes with real VMs, joined to a
 * scheduler over mutual TLS, as `torpor up --hosts` does it.
 */
import { newId } from "@torpor/ids";
import type { SchedulerService } from "@torpor/proto/scheduler";
import type { ServiceClient } from "@torpor/rpc";
import {
  createHostNetwork,
  type HostNetwork,
  hostNetworkOf,
  inNamespace,
  removeHostNetwork,
  setHostLink,
} from "../../services/cli/deployment/host_network.ts";
import { eventually, makeTestHome, processesWith, testInstallation } from "./hostagent.ts";

/** A network of host agents. Disposing it ends the agents, which pause their sandboxes, and removes all of it. */
export interface NetworkHosts extends AsyncDisposable {
  /** Where a control plane listens that the hosts are to reach. */
  controlAddress: string;
  /** Starts the host agents, and waits until the scheduler knows them. They are called host-1, host-2 … */
  start(scheduler: ServiceClient<typeof SchedulerService>, schedulerUrl: string): Promise<void>;
  /** Pulls a host's cable, or plugs it in again. @param index from 0. */
  setLink(index: number, state: "up" | "down"): Promise<void>;
}

/** Makes the network for `count` hosts. */
export async function openNetworkHosts(count: number): Promise<NetworkHosts> {
  await using stack = new AsyncDisposableStack();
  const home = await makeTestHome();
  stack.defer(() => Deno.remove(home, { recursive: true }));
  const network = hostNetworkOf(home + newId(), count);
  stack.defer(() => removeHostNetwork(network));
  await createHostNetwork(network);
  const resources = stack.move();
  return {
    controlAddress: network.controlAddress,
    start: async (scheduler, schedulerUrl) => {
      for (const index of network.hosts.keys()) {
        resources.use(await startAgent(network, index, `${home}/${index + 1}`, scheduler, schedulerUrl));
      }
      await eventually(async () => {
        const { hosts } = await scheduler.listHosts({});
        return hosts.filter(({ state }) => state === "ready").length === count ? true : undefined;
      }, "all hosts registered");
    },
    setLink: (index, state) => setHostLink(network.hosts[index]!, state),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

async function startAgent(
  network: HostNetwork,
  index: number,
  home: string,
  scheduler: ServiceClient<typeof SchedulerService>,
  schedulerUrl: string,
): Promise<AsyncDisposable> {
  const name = `host-${index + 1}`;
  const member = network.hosts[index]!;
  const { token } = await scheduler.createHostToken({ name });
  const { cache, nativeDirectory } = testInstallation();
  const entry = new URL("../../services/hostagent/main.ts", import.meta.url).pathname;
  const argv = inNamespace(member, [Deno.execPath(), "run", "--allow-all", "--no-check", entry]);
  await Deno.mkdir(home, { recursive: true });
  const log = await Deno.open(`${home}.log`, { create: true, write: true });
  const child = new Deno.Command(argv[0]!, {
    args: argv.slice(1),
    env: {
      TORPOR_HOME: home,
      TORPOR_CACHE: cache,
      TORPOR_LIB_DIR: nativeDirectory,
      TORPOR_LISTEN: `https://${member.address}:7073`,
      TORPOR_SCHEDULER_URL: schedulerUrl,
      TORPOR_HOST_TOKEN: token,
      TORPOR_HOST_NAME: name,
      TORPOR_HEARTBEAT_INTERVAL_MS: "200",
      TORPOR_SPARE_VMM: "off",
      TORPOR_NETWORK: "off",
    },
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const logged = child.stdout.pipeTo(log.writable);
  return {
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await child.status;
      await logged;
      for (const pid of await processesWith(home)) Deno.kill(pid, "SIGKILL");
    },
  };
}
