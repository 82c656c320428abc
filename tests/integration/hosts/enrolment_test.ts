import { assert, assertEquals, assertRejects } from "@std/assert";
import { createKey, parseHostToken, requestFor, validityOf } from "@torpor/certificates";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { SchedulerService } from "@torpor/proto/scheduler";
import { Credentials, openClient } from "@torpor/rpc";
import { HostCredentials } from "../../../services/hostagent/host/host_credentials.ts";
import { startTlsScheduler, type TlsScheduler } from "./tls_scheduler.ts";

const CAPACITY = { vcpus: 2, memoryMb: 4096n, diskMb: 10_000n };

/** A host's side of the matter: a directory of its own, its certificate, and the scheduler as it sees it. */
async function openHost(scheduler: TlsScheduler, token: string, hostId = newId(), directory?: string) {
  await using stack = new AsyncDisposableStack();
  const home = directory ?? await Deno.makeTempDir();
  if (!directory) stack.defer(() => Deno.remove(home, { recursive: true }));
  const path = `${home}/host-certificate.json`;
  const credentials = stack.use(
    await HostCredentials.open({ hostId, schedulerUrl: scheduler.hostUrl, token, path }),
  );
  const client = stack.use(openClient(SchedulerService, { address: scheduler.hostUrl, credentials }));
  const resources = stack.move();
  return { hostId, path, credentials, client, [Symbol.asyncDispose]: () => resources.disposeAsync() };
}

async function codeOf(call: () => Promise<unknown>): Promise<string> {
  return (await assertRejects(call, TorporError)).code;
}

Deno.test("a host joins with a token, once, and reports as itself only", async () => {
  await using scheduler = await startTlsScheduler();
  const { token, expiresUnixMs } = await scheduler.client.createHostToken({ name: "one" });
  assert(Number(expiresUnixMs) > Date.now() + 3_500_000);
  await using host = await openHost(scheduler, token);
  const address = "https://10.0.0.7:7073";
  await host.client.registerHost({ hostId: host.hostId, name: "whatever", address, capacity: CAPACITY });
  await host.client.heartbeat({ hostId: host.hostId });
  const { hosts } = await scheduler.client.listHosts({});
  assertEquals(hosts.map(({ name, address }) => [name, address]), [["one", `${address}#${host.hostId}.host`]]);

  const other = newId();
  const register = { hostId: other, name: "x", address, capacity: CAPACITY };
  assertEquals(await codeOf(() => host.client.registerHost(register)), "permission_denied");
  for (const odd of ["unix:/run/x", "http://10.0.0.7:1"]) {
    const request = { ...register, hostId: host.hostId, address: odd };
    assertEquals(await codeOf(() => host.client.registerHost(request)), "invalid_argument");
  }
  // What only the control plane may do.
  assertEquals(await codeOf(() => host.client.place({ sandboxId: newId(), resources: CAPACITY })), "permission_denied");
  assertEquals(await codeOf(() => host.client.createHostToken({ name: "two" })), "permission_denied");
  assertEquals(await codeOf(() => host.client.removeHost({ host: host.hostId })), "permission_denied");
  // The key is the host's alone, and only this user's to read.
  assertEquals((await Deno.stat(host.path)).mode! & 0o777, 0o600);
  const stored = await scheduler.test.database.sql`select * from host_tokens`;
  assert(!JSON.stringify(stored).includes(parseHostToken(token).secret.toHex()));
});

Deno.test("a token works once, for its time, for one new host", async () => {
  await using scheduler = await startTlsScheduler();
  const { token } = await scheduler.client.createHostToken({ name: "one" });
  const { secret, authority } = parseHostToken(token);
  const credentials = new Credentials({ key: "", certificate: "", authority });
  using anybody = openClient(SchedulerService, { address: scheduler.hostUrl, credentials });
  const [key, hostId] = [await createKey(), newId()];
  const enrol = async (changes: { secret?: Uint8Array; hostId?: string; key?: string } = {}) =>
    await anybody.enrollHost({
      secret: changes.secret ?? secret,
      hostId: changes.hostId ?? hostId,
      certificateRequest: await requestFor(changes.key ?? key),
    });
  assertEquals(await codeOf(() => enrol({ secret: new Uint8Array(24) })), "permission_denied");
  const both = await Promise.allSettled([enrol(), enrol({ hostId: newId(), key: await createKey() })]);
  assertEquals(both.filter(({ status }) => status === "fulfilled").length, 1);
  const winner = both[0]!.status === "fulfilled";
  if (winner) await enrol(); // Its answer may have been lost.
  assertEquals(await codeOf(async () => enrol({ key: await createKey() })), "permission_denied");

  const late = await scheduler.client.createHostToken({ name: "late" });
  await scheduler.test.database.sql`update host_tokens set expires_at = now() - interval '1 s' where name = 'late'`;
  const changes = { secret: parseHostToken(late.token).secret, hostId: newId() };
  assertEquals(await codeOf(() => enrol(changes)), "permission_denied");

  // A token must not make its bearer a host that is here already.
  const victim = newId();
  await scheduler.client.registerHost({ hostId: victim, name: "v", address: "http://10.0.0.9:1", capacity: CAPACITY });
  const fresh = await scheduler.client.createHostToken({ name: "fresh" });
  const thief = { secret: parseHostToken(fresh.token).secret, hostId: victim };
  assertEquals(await codeOf(() => enrol(thief)), "already_exists");
  assertEquals(await codeOf(() => scheduler.client.createHostToken({ name: "v" })), "already_exists");
  assertEquals(await codeOf(() => anybody.listHosts({})), "unauthenticated");
});

Deno.test("a certificate is renewed before it ends, kept over a restart, and renewed when it has ended meanwhile", async () => {
  await using scheduler = await startTlsScheduler({ certificateLifeMs: 3_000 });
  const directory = await Deno.makeTempDir();
  const { token } = await scheduler.client.createHostToken({ name: "one" });
  const hostId = newId();
  const { secret } = parseHostToken(token);
  assertEquals(secret.length, 24);
  {
    await using host = await openHost(scheduler, token, hostId, directory);
    const first = host.credentials.current.certificate;
    const renewed = Promise.withResolvers<void>();
    using _listening = host.credentials.onReplace(() => renewed.resolve());
    await renewed.promise;
    const second = host.credentials.current.certificate;
    assert(first !== second && validityOf(first).notAfter.getTime() > Date.now());
    const register = { hostId, name: "x", address: "https://10.0.0.7:1", capacity: CAPACITY };
    await host.client.registerHost(register);
  }
  const { certificate } = JSON.parse(await Deno.readTextFile(`${directory}/host-certificate.json`));
  const left = validityOf(certificate).notAfter.getTime() - Date.now();
  await new Promise((resolve) => setTimeout(resolve, left + 1_100)); // It ends: that is what is waited for.
  // The token was used long ago; the certificate alone brings the host back.
  await using host = await openHost(scheduler, token, hostId, directory);
  const renewed = Promise.withResolvers<void>();
  using _listening = host.credentials.onReplace(() => renewed.resolve());
  if (host.credentials.current.certificate === certificate) await renewed.promise;
  await host.client.heartbeat({ hostId });
  await Deno.remove(directory, { recursive: true });
});

Deno.test("a removed host is refused, until it is added anew", async () => {
  await using scheduler = await startTlsScheduler();
  const { token } = await scheduler.client.createHostToken({ name: "one" });
  const directory = await Deno.makeTempDir();
  const hostId = newId();
  const register = { hostId, name: "x", address: "https://10.0.0.7:1", capacity: CAPACITY };
  {
    await using host = await openHost(scheduler, token, hostId, directory);
    await host.client.registerHost(register);
    await scheduler.client.removeHost({ host: "one" });
    assertEquals((await scheduler.client.removeHost({ host: hostId })).hostId, hostId);
    const certificateRequest = await requestFor(await createKey());
    for (
      const call of [
        () => host.client.heartbeat({ hostId }),
        () => host.client.registerHost(register),
        () => host.client.renewHostCertificate({ certificateRequest }),
      ]
    ) assertEquals(await codeOf(call), "permission_denied");
    assertEquals((await scheduler.client.listHosts({})).hosts, []);
  }
  const again = await scheduler.client.createHostToken({ name: "one" });
  await using host = await openHost(scheduler, again.token, hostId, directory);
  await host.client.registerHost(register);
  assertEquals((await scheduler.client.listHosts({})).hosts.map(({ state }) => state), ["ready"]);
  await Deno.remove(directory, { recursive: true });
});

Deno.test("cordon, drain and remove by name; what is there keeps a host from being removed", async () => {
  await using scheduler = await startTlsScheduler();
  const hostId = newId();
  await scheduler.client.registerHost({ hostId, name: "one", address: "http://10.0.0.9:1", capacity: CAPACITY });
  const state = async (placement: string) =>
    (await scheduler.client.setHostPlacement({ host: "one", placement })).host!.state;
  assertEquals([await state("cordoned"), await state("draining"), await state("draining")], [
    "cordoned",
    "draining",
    "draining",
  ]);
  const place = () => scheduler.client.place({ sandboxId: newId(), resources: { ...CAPACITY, vcpus: 1 } });
  assertEquals(await codeOf(place), "no_capacity");
  assertEquals(await state("open"), "ready");
  assertEquals((await place()).hostId, hostId);
  assertEquals(await codeOf(() => state("half")), "invalid_argument");
  const unknown = { host: "nobody", placement: "open" };
  assertEquals(await codeOf(() => scheduler.client.setHostPlacement(unknown)), "host_not_found");

  const { sql } = scheduler.test.database;
  await sql`insert into sandboxes (id, team_id, state, host_id, template, vcpus, memory_mb, disk_size_mb,
      timeout_sec, version, reason)
    values ('s', 'default', 'failed', ${hostId}, 'base', 1, 128, 64, 0, 1, 'x')`;
  const refused = await assertRejects(() => scheduler.client.removeHost({ host: "one" }), TorporError);
  assertEquals([refused.code, refused.message.includes("1 sandboxes")], ["conflict", true]);
  const { sandboxes } = await scheduler.client.getHost({ host: "one" });
  assertEquals(sandboxes, 1);
  assertEquals((await scheduler.client.removeHost({ host: "one", force: true })).sandboxes, 1);
});
