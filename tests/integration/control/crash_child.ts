/** A process to be killed: begins one verb on a sandbox and carries it out. See crash_test.ts. */
import { openDatabase } from "@torpor/db";
import { HostClients, Lifecycle } from "@torpor/lifecycle";
import { SchedulerService } from "@torpor/proto/scheduler";
import { openClient } from "@torpor/rpc";
import { SPEC, TEAM } from "./control_plane.ts";

const [databaseUrl, schedulerUrl, token, verb, id] = Deno.args as [string, string, string, string, string];
const hosts = new HostClients(token);
const lifecycle = new Lifecycle({
  database: openDatabase(databaseUrl),
  scheduler: openClient(SchedulerService, { address: schedulerUrl, token }),
  hosts: (address) => hosts.at(address),
});
if (verb === "create") await lifecycle.createSandbox(TEAM, SPEC);
if (verb === "pause") await lifecycle.pauseSandbox(TEAM, id);
if (verb === "resume") await lifecycle.resumeSandbox(TEAM, id);
if (verb === "snapshot") await (await lifecycle.startSnapshot(TEAM, { sandboxId: id, name: "s" })).done;
if (verb === "fork") await lifecycle.forkSandbox(TEAM, id, { count: 2 });
if (verb === "delete") await lifecycle.deleteSandbox(TEAM, id);
