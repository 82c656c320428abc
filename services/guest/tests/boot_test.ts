import { assert, assertEquals } from "@std/assert";
import { homePaths, torporHome } from "@torpor/config";
import { buildImages } from "../image/mod.ts";
import { collectRun, concat, succeeded } from "./guest_client.ts";
import { bootVm, consoleUntilPowerOff } from "./vm.ts";

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

Deno.test("a probe boot says so and switches off; one without disks says why it can't go on", async () => {
  const cacheDirectory = homePaths(torporHome()).images;
  await buildImages({ cacheDirectory });
  assert((await consoleUntilPowerOff("torpor.probe", cacheDirectory)).includes("TORPOR_PROBE_OK"));
  const failed = await consoleUntilPowerOff("", cacheDirectory);
  assert(failed.includes("TORPOR_INIT_FAILED /dev/vda: No such device"), failed);
});

Deno.test("a microVM boots from the images and its agent runs processes and moves files", async (test) => {
  const cacheDirectory = homePaths(torporHome()).images;
  await buildImages({ cacheDirectory });
  await using vm = await bootVm(256, cacheDirectory);
  let { client } = vm;
  const reply = await client.hello();
  assertEquals(reply.protocolVersion, 2);

  await test.step("processes run as the user, with a login shell, in their own cgroup", async () => {
    const script = "id; python --version; sudo id -u; cat /proc/self/cgroup /proc/self/oom_score_adj; pwd";
    const result = await client.run(["/bin/bash", "-l", "-c", script], { user: "" });
    assertEquals(
      text(result.stdout),
      "uid=1000(user) gid=1000(user) groups=1000(user)\nPython 3.11.2\n0\n0::/user\n0\n/home/user\n".replace(
        "3.11.2",
        /Python (\S+)/.exec(text(result.stdout))?.[1] ?? "no Python",
      ),
    );
    assertEquals([text(result.stderr), result.exitCode], ["", 0]);
  });

  await test.step("the system is set up as Debian expects", async () => {
    const script = `set -e
      test -w /dev/shm; test -w /tmp; test -d /run/lock; test -e /dev/fd/0; test -c /dev/ptmx
      test "$(hostname)" = sandbox; test "$(wc -c < /etc/machine-id)" = 33
      test "$(cat /proc/sys/vm/compaction_proactiveness)" = 0
      getent hosts localhost > /dev/null; ip -o addr show lo | grep -q 127.0.0.1
      git init -q /tmp/repository; mv /usr/share/misc /usr/share/moved; touch -d @1 /etc/passwd; sudo -n true`;
    const result = await client.run(["/bin/bash", "-c", script]);
    assertEquals([result.exitCode, text(result.stderr)], [0, ""]);
  });

  await test.step("5 MB are written, read and the same", async () => {
    const bytes = concat(Array.from({ length: 80 }, () => crypto.getRandomValues(new Uint8Array(65_536))));
    const stream = await client.open({ case: "writeFile", value: { path: "data", user: "" } });
    const events = Array.fromAsync(stream);
    await stream.sendBytes("fileChunk", bytes);
    await events;
    assert(succeeded(stream.end!));
    const read = await client.call({ case: "readFile", value: { path: "/home/user/data", user: "" } });
    const back = concat(read.events.flatMap((event) => (event.case === "fileChunk" ? [event.value.data] : [])));
    assert(back.length === bytes.length && back.every((byte, index) => byte === bytes[index]));
    assert(succeeded((await client.call({ case: "sync", value: {} })).end));
  });

  await test.step("the clock is set and entropy is taken", async () => {
    const unixNs = BigInt(Date.now() + 86_400_000) * 1_000_000n;
    const set = await client.call({ case: "wake", value: { unixNs, entropy: new Uint8Array(64).fill(9) } });
    assert(succeeded(set.end));
    const [pong] = (await client.call({ case: "ping", value: {} })).events;
    assert(pong?.case === "pong" && pong.value.unixNs >= unixNs);
  });

  await test.step("the agent answers and starts processes while the user's memory is used up", async () => {
    const bomb = await client.open({
      case: "startProcess",
      value: { argv: ["python3", "-c", "x = []\nwhile True: x.append(bytearray(1 << 20))"] },
    });
    assertEquals((await client.call({ case: "ping", value: {} })).events[0]?.case, "pong");
    assertEquals((await collectRun(bomb)).signal, 9);
    const after = await client.run(["echo", "alive"]);
    assertEquals(text(after.stdout), "alive\n");
  });

  await test.step("a new host end finds the processes of the old one, and a gap without a host blocks nobody", async () => {
    const stream = await client.open({
      case: "startProcess",
      value: { argv: ["sh", "-c", "echo start; head -c 3000000 /dev/zero; exit 9"], user: "root" },
    });
    stream.autoCredit = false;
    const started = await stream.next();
    assert(started.case === "processStarted");
    await vm.reconnect();
    client = vm.client;
    const again = await client.hello({ repeatMs: 500 });
    assertEquals(again.bootId, reply.bootId);
    const attached = await client.open({ case: "attachProcess", value: { pid: started.value.pid } });
    assertEquals((await collectRun(attached)).exitCode, 9);
  });

  await test.step("init starts the agent again when it dies", async () => {
    const killer = await client.open({
      case: "startProcess",
      value: { argv: ["sh", "-c", "kill -KILL $(pidof torpor-agent)"], user: "root" },
    });
    // What was sent to the old agent and not read is lost with it, so Hello is repeated until the new one answers.
    let second = reply;
    while (second.bootId === reply.bootId) second = await client.hello({ repeatMs: 500 });
    assertEquals(killer.end, undefined);
    assertEquals(text((await client.run(["echo", "again"])).stdout), "again\n");
  });
});
