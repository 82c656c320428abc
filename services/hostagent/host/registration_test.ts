import { assertEquals } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { SchedulerService } from "@torpor/proto/scheduler";
import { formatAddress, serve } from "@torpor/rpc";
import { Registration } from "./registration.ts";

const facts = {
  hostId: "h".repeat(20),
  name: "test",
  address: "unix:/run/agent.sock",
  capabilities: ["accelerator:tcg"],
  labels: { zone: "a" },
  agentVersion: "1",
  capacity: () => Promise.resolve({ vcpus: 2, memoryMb: 1024, diskMb: 2048 }),
  diskFull: () => Promise.resolve(true),
  counts: () => ({ running: 1, paused: 2 }),
};

Deno.test("a host registers, retries, beats, and registers again when it has been forgotten", async () => {
  const calls: string[] = [];
  const enough = Promise.withResolvers<void>();
  let registrations = 0;
  await using scheduler = await serve({
    listen: { transport: "tcp", hostname: "127.0.0.1", port: 0 },
    token: "secret",
    routes: (router) =>
      router.service(SchedulerService, {
        registerHost: (request) => {
          calls.push("register");
          registrations++;
          if (registrations === 1) throw new TorporError("unavailable", "not yet");
          assertEquals([request.hostId, request.capacity?.memoryMb], [facts.hostId, 1024n]);
          assertEquals([request.labels, request.diskFull], [facts.labels, true]);
          return { heartbeatIntervalMs: 10 };
        },
        heartbeat: (request) => {
          calls.push("heartbeat");
          assertEquals([request.runningSandboxes, request.pausedSandboxes, request.diskFull], [1, 2, true]);
          if (registrations === 2) throw new TorporError("host_not_found", "who?");
          enough.resolve();
          return {};
        },
      }),
  });
  const schedulerUrl = formatAddress(scheduler.address);
  const registration = new Registration(facts, { schedulerUrl, token: "secret", heartbeatIntervalMs: 1000 });
  await enough.promise;
  await registration[Symbol.asyncDispose]();
  assertEquals(calls.slice(0, 5), ["register", "register", "heartbeat", "register", "heartbeat"]);
});
