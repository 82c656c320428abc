/** ./torpor as a user runs it: real database, services and virtual machines in a data directory of their own. */
import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { listProcesses } from "../../../services/cli/process/process_table.ts";
import { Program } from "./program.ts";

function processesOf(home: string) {
  return listProcesses().filter(({ env, argv }) =>
    env.get("TORPOR_HOME") === home || argv.some((argument) => argument.includes(home))
  );
}

/** Runs `work` while the first byte of a file is another. */
async function withFlippedByte(path: string, work: () => Promise<void>): Promise<void> {
  using file = await Deno.open(path, { read: true, write: true });
  const byte = new Uint8Array(1);
  const write = async () => {
    await file.seek(0, Deno.SeekMode.Start);
    await file.write(byte);
  };
  await file.read(byte);
  byte[0]! ^= 1;
  await write();
  try {
    await work();
  } finally {
    byte[0]! ^= 1;
    await write();
  }
}

Deno.test("the command line, from an empty data directory to none", async (t) => {
  const torpor = await Program.open();
  await using cleanup = new AsyncDisposableStack();
  cleanup.use(torpor);
  let id = "";

  await t.step("nothing runs yet: that has an exit code of its own", async () => {
    assertEquals((await torpor.run(["sandbox", "ls"])).code, 5);
    assertEquals((await torpor.run(["status", "--json"])).code, 5);
    assertEquals((await torpor.run(["down", "--json"])).json(), { stopped: [], killed: [], purged: false });
  });

  await t.step("up starts everything; a second up starts nothing", async () => {
    const first = await torpor.run(["up", "--json"]);
    assertEquals(first.code, 0, first.stderr);
    const { services, api_key_file } = first.json();
    assertEquals(services.map((service: { started: boolean }) => service.started), [true, true, true, true]);
    assertEquals((await Deno.stat(api_key_file)).mode! & 0o777, 0o600);
    assertEquals((await Deno.stat(torpor.path("internal-token"))).mode! & 0o777, 0o600);
    assertEquals((await Deno.stat(torpor.path("run"))).mode! & 0o777, 0o700);
    const second = (await torpor.run(["up", "--json"])).json();
    assertEquals(
      second.services,
      services.map((service: { started: boolean }) => ({ ...service, started: false })),
    );
  });

  await t.step("a service that was killed is started again, alone", async () => {
    const before = (await torpor.run(["status", "--json"])).json().services;
    const victim = before.find(({ name }: { name: string }) => name === "scheduler").pid;
    Deno.kill(victim, "SIGKILL");
    const { services } = (await torpor.run(["up", "--json"])).json();
    for (const { name, pid, started } of services) {
      const old = before.find((service: { name: string }) => service.name === name).pid;
      assertEquals(started, name === "scheduler");
      if (name === "scheduler") assertNotEquals(pid, old);
      else assertEquals(pid, old);
    }
  });

  await t.step("status and doctor tell what is there", async () => {
    const status = await torpor.run(["status", "--json"]);
    assertEquals(status.code, 0, status.stdout);
    assertEquals([status.json().database, status.json().hosts.length], ["running", 1]);
    const { usable, checks } = (await torpor.run(["doctor", "--json"])).json();
    assertEquals(usable, true);
    const states = new Set(checks.map(({ state }: { state: string }) => state));
    assert(!states.has("missing") && !states.has("unknown"), JSON.stringify(checks));
  });

  await t.step("a sandbox is created, shown and listed", async () => {
    const created = await torpor.run(["sandbox", "create", "--memory", "192", "--metadata", "a=b", "--json"]);
    assertEquals(created.code, 0, created.stdout);
    id = created.json().sandbox_id;
    assertMatch(created.json().trace_id, /^[0-9a-f]{32}$/);
    const shown = (await torpor.run(["sandbox", "get", id, "--json"])).json();
    assertEquals([shown.state, shown.memory_mb, shown.metadata], ["running", 192, { a: "b" }]);
    const { sandboxes } = (await torpor.run(["sandbox", "ls", "--state", "running", "--json"])).json();
    assertEquals(sandboxes.map(({ sandbox_id }: { sandbox_id: string }) => sandbox_id), [id]);
  });

  await t.step("exec passes on output, input and the exit code", async () => {
    const shell = await torpor.run(["exec", id, "--", "echo out; echo err >&2; exit 7"]);
    assertEquals([shell.code, shell.stdout, shell.stderr], [7, "out\n", "err\n"]);
    const argv = await torpor.run(["exec", id, "--", "printf", "%s|", "a b", "--json", "$HOME"]);
    assertEquals([argv.code, argv.stdout], [0, "a b|--json|$HOME|"]);
    const bytes = crypto.getRandomValues(new Uint8Array(65_536));
    const piped = await torpor.run(["exec", id, "--", "sha256sum"], bytes);
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    assertEquals(piped.stdout.split(" ")[0], Array.from(digest, (b) => b.toString(16).padStart(2, "0")).join(""));
    const json = await torpor.run(["exec", id, "--json", "--", "echo hi; exit 3"]);
    assertEquals([json.code, json.json().stdout, json.json().exit_code], [3, "hi\n", 3]);
    assertEquals((await torpor.run(["exec", id, "--", "kill -9 $$"])).code, 137);
  });

  await t.step("a signal reaches the command in the sandbox", async () => {
    const child = torpor.start([
      "exec",
      id,
      "--",
      "trap 'echo got it; exit 9' TERM; echo ready; read -r _ < <(sleep 60)",
    ]);
    const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    let seen = "";
    while (!seen.includes("ready")) {
      const part = await reader.read();
      assert(!part.done, "it ended before it was ready");
      seen += part.value;
    }
    child.kill("SIGTERM");
    for (let part = await reader.read(); !part.done; part = await reader.read()) seen += part.value;
    assertEquals(seen, "ready\ngot it\n");
    assertEquals((await child.status).code, 9);
    await child.stderr.cancel();
  });

  await t.step("files are copied both ways, byte for byte", async () => {
    const local = torpor.path("file");
    const bytes = new Uint8Array(5_000_000);
    for (let i = 0; i < bytes.length; i += 65_536) crypto.getRandomValues(bytes.subarray(i, i + 65_536));
    await Deno.writeFile(local, bytes);
    assertEquals((await torpor.run(["cp", local, `${id}:/tmp/copy`, "--json"])).json().bytes, bytes.length);
    assertEquals((await torpor.run(["cp", `${id}:/tmp/copy`, `${local}.back`])).code, 0);
    assertEquals(await Deno.readFile(`${local}.back`), bytes);
    assertEquals((await torpor.run(["cp", "-", `${id}:/tmp/typed`], "typed")).code, 0);
    assertEquals((await torpor.run(["cp", `${id}:/tmp/typed`, "-"])).stdout, "typed");
    assertEquals((await torpor.run(["cp", `${id}:/nowhere`, local])).code, 3);
  });

  await t.step("wrong input has exit code 2, what is not there 3, the wrong state 4", async () => {
    assertEquals((await torpor.run(["exec", "nonsense", "--", "true"])).code, 2);
    assertEquals((await torpor.run(["sandbox", "create", "--memory", "1"])).code, 2);
    assertEquals((await torpor.run(["sandbox", "create", "--template", "UPPER"])).code, 2);
    assertEquals((await torpor.run(["sandbox", "get", "aaaaaaaaaaaaaaaaaaaa"])).code, 3);
    assertEquals((await torpor.run(["trace", "0".repeat(31) + "1", "--wait", "0"])).code, 3);
    const error = (await torpor.run(["sandbox", "get", "aaaaaaaaaaaaaaaaaaaa", "--json"])).json().error;
    assertEquals(error.code, "sandbox_not_found");
  });

  await t.step("a snapshot is taken, listed, looked into, spawned from and removed; a fork, a checkpoint", async () => {
    const taken = await torpor.run(["snapshot", "create", id, "typed", "--keep-for", "7d", "--json"]);
    assertEquals([taken.code, taken.json().state], [0, "ready"], taken.stderr);
    const keptMs = Date.parse(taken.json().expires_at) - Date.parse(taken.json().created_at);
    assert(Math.abs(keptMs - 7 * 86_400_000) < 1000, `${keptMs}`);
    assertMatch((await torpor.run(["snapshot", "ls"])).stdout, / in [67] d *$/m);
    assertEquals((await torpor.run(["snapshot", "update", "typed"])).code, 2);
    assertEquals((await torpor.run(["snapshot", "update", "typed", "--keep-for", "a day"])).code, 2);
    assertEquals((await torpor.run(["snapshot", "update", "nowhere", "--keep-for", "1d"])).code, 3);
    const updated = await torpor.run(["snapshot", "update", "typed", "--keep-for", "forever"]);
    assertEquals([updated.code, updated.stdout], [0, "typed: kept for ever.\n"], updated.stderr);
    assertEquals((await torpor.run(["snapshot", "create", id, "typed"])).code, 4, "the name is taken");
    assertEquals((await torpor.run(["snapshot", "create", id, "No"])).code, 2);
    assertMatch((await torpor.run(["snapshot", "ls"])).stdout, /^typed +[a-z0-9]{20} +ready +base +1 +192 MiB/m);
    assertEquals((await torpor.run(["snapshot", "get", "typed", "--json"])).json().memory_mb, 192);
    assertMatch((await torpor.run(["snapshot", "inspect", "typed"])).stdout, /├─ memory: 192 MiB in \d+ extents/);
    const contents = (await torpor.run(["snapshot", "inspect", "typed", "--json"])).json();
    assertEquals([contents.memory.size_bytes, contents.verified], [192 * 2 ** 20, []]);
    const verified = await torpor.run(["snapshot", "inspect", "typed", "--verify"]);
    assertEquals(verified.code, 0, verified.stderr);
    assertMatch(verified.stdout, /└─ data: \S+ \S+ read in \d+ files?, (all good|\d+ unchecked, the others good)\n/);
    await withFlippedByte(torpor.path(`snapshots/${taken.json().snapshot_id}/memory.data`), async () => {
      const damaged = await torpor.run(["snapshot", "inspect", "typed", "--verify", "--json"]);
      const verdicts = damaged.json().verified.filter(({ verdict }: { verdict: string }) => verdict === "damaged");
      assertEquals([damaged.code, verdicts.length, verdicts[0].file], [1, 1, "memory.data"], damaged.stderr);
    });
    // What is known to be damaged is refused until it is found good again.
    assertEquals((await torpor.run(["snapshot", "inspect", "typed", "--verify"])).code, 0);
    const spawned = await torpor.run(["sandbox", "create", "--snapshot", "typed", "--json"]);
    assertEquals([spawned.code, spawned.json().memory_mb], [0, 192], spawned.stderr);
    assertEquals((await torpor.run(["sandbox", "create", "--snapshot", "typed", "--memory", "256"])).code, 4);
    const forked = await torpor.run(["fork", id, "--count", "2", "--json"]);
    assertEquals([forked.code, forked.json().children.length], [0, 2], forked.stderr);
    const ids = [spawned.json(), ...forked.json().children].map(({ sandbox_id }: { sandbox_id: string }) => sandbox_id);
    for (const child of ids) {
      assertEquals((await torpor.run(["exec", child, "--", "cat", "/tmp/typed"])).stdout, "typed");
    }
    const checkpoint = await torpor.run(["checkpoint", id]);
    assertMatch(checkpoint.stdout, /^checkpoint-[a-z0-9]{20}\n$/);
    const platform = await torpor.run(["snapshot", "create", id, "for-all", "--platform", "--json"]);
    assertEquals([platform.code, platform.json().platform], [0, true], platform.stderr);
    assertEquals((await torpor.run(["snapshot", "rm", "for-all", "--json"])).json().error.code, "permission_denied");
    const removed = await torpor.run(["snapshot", "rm", "--platform", "for-all", "typed", checkpoint.stdout.trim()]);
    assertEquals(removed.code, 0, removed.stderr);
    assertEquals((await torpor.run(["sandbox", "rm", ...ids])).code, 0);
    const collected = await torpor.run(["snapshot", "gc", "--dry-run", "--json"]);
    assertEquals([collected.code, collected.json().dry_run], [0, true], collected.stderr);
    assertEquals((await torpor.run(["snapshot", "ls"])).stdout.split("\n").length, 2, "one line: there are none");
  });

  await t.step("pause, then resume: the trace shows every part", async () => {
    const paused = (await torpor.run(["pause", id, "--reclaim", "sync=5000", "--json"])).json();
    assert(paused.hooks.some(({ step }: { step: string }) => step === "sync"), JSON.stringify(paused.hooks));
    // The checkpoints before it are generations, too.
    assertEquals([paused.state, paused.snapshot.generation > 1], ["paused", true]);
    assertEquals((await torpor.run(["exec", id, "--", "true"])).code, 4);
    const resumed = (await torpor.run(["resume", id, "--json"])).json();
    assertEquals(resumed.state, "running");
    const { spans } = (await torpor.run(["trace", resumed.trace_id, "--json"])).json();
    const components = new Set(spans.map(({ component }: { component: string }) => component));
    for (const name of ["api", "scheduler", "hostagent", "pager", "guest"]) assert(components.has(name), name);
    assertMatch((await torpor.run(["trace", resumed.trace_id])).stdout, /^hostagent .*resume\.\w+ .*│/m);
  });

  await t.step("down pauses what runs and leaves no process; up finds it paused", async () => {
    const down = (await torpor.run(["down", "--json"])).json();
    assertEquals(down.stopped, ["reconciler", "hostagent", "scheduler", "api", "postgresql"]);
    assertEquals(down.killed, []);
    assertEquals(processesOf(torpor.home), []);
    const up = await torpor.run(["up"]);
    assertEquals(up.code, 0, up.stderr);
    const resumed = await torpor.run(["resume", id]);
    assertEquals(resumed.code, 0, resumed.stderr);
    const kept = await torpor.run(["exec", id, "--", "cat", "/tmp/typed"]);
    assertEquals([kept.code, kept.stdout, kept.stderr], [0, "typed", ""]);
    assertEquals((await torpor.run(["sandbox", "rm", id, "--json"])).json().deleted[0].sandbox_id, id);
  });

  await t.step("down copes with services that were killed, and purge deletes the data directory", async () => {
    for (const { pid, env } of processesOf(torpor.home)) if (env.get("TORPOR_SERVICE")) Deno.kill(pid, "SIGKILL");
    const refused = await torpor.run(["down", "--purge"]);
    assertEquals(refused.code, 2, "without --yes and a terminal nothing is deleted");
    const sharer = new Deno.Command("sleep", {
      args: ["600"],
      env: { TORPOR_HOME: "/elsewhere", TORPOR_CACHE: torpor.path("cache") },
    }).spawn();
    const shared = await torpor.run(["down", "--purge", "--yes", "--json"]);
    sharer.kill("SIGKILL");
    await sharer.status;
    assertEquals([shared.code, shared.json().error.code], [4, "conflict"], "others use what is in it");
    await Deno.stat(torpor.path("database"));
    const down = await torpor.run(["down", "--purge", "--yes", "--json"]);
    assertEquals([down.code, down.json().purged], [0, true]);
    assertEquals(processesOf(torpor.home), []);
    assertEquals(await Deno.stat(torpor.home).catch((error) => error instanceof Deno.errors.NotFound), true);
  });
});
