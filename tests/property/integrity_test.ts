/** Programs that check their own memory go on over many pauses, and the disk of each generation is a sound file system. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { eventually, startTestHostAgent, type TestHostAgent } from "@torpor/testing/hostagent";
import { copyProgram } from "./harness/copy_program.ts";

const CYCLES = 10;
const STRESS = "/usr/bin/stress-ng";
const HASHER = fromFileUrl(new URL("./harness/hasher.py", import.meta.url));

Deno.test("a process that hashes its memory finds no wrong byte over ten pauses, and each generation's disk is sound", async () => {
  await using host = await startTestHostAgent();
  const id = await host.create();
  await startHasher(host, id);
  let rounds = await roundsAfter(host, id, 0);
  for (let cycle = 0; cycle < CYCLES; cycle++) {
    await host.run(id, `head -c 100000 /dev/urandom > /root/file-${cycle}; rm -f /root/file-${cycle - 2}; sync`);
    const { snapshot } = await host.client.pauseSandbox({ sandboxId: id });
    await requireSoundDisk(host.layout.snapshot(snapshot!.snapshotId).disk);
    await host.client.resumeSandbox({ sandboxId: id });
    rounds = await roundsAfter(host, id, rounds);
  }
  assertEquals(await host.run(id, "cat /root/hasher.log"), "");
});

Deno.test("stress-ng verifies its memory over ten pauses", async () => {
  await using host = await startTestHostAgent();
  const id = await host.create();
  const stress = await copyProgram(host, id, STRESS);
  const options = "--vm 1 --vm-bytes 16M --vm-method all --vm-keep --verify --metrics-brief --timeout 0";
  await host.run(
    id,
    `cat > /root/stress.sh <<'END'
${stress} ${options} > /root/stress.log 2>&1 &
echo $! > /dev/shm/stress.pid
wait $!; echo $? > /dev/shm/stress.exit
END
     cd /root && nohup bash stress.sh > /dev/null 2>&1 &`,
  );
  for (let cycle = 0; cycle < CYCLES; cycle++) {
    await busyFor(host, id);
    await host.client.pauseSandbox({ sandboxId: id });
    await host.client.resumeSandbox({ sandboxId: id });
  }
  await busyFor(host, id);
  await host.run(id, "kill -INT $(cat /dev/shm/stress.pid)");
  await eventually(
    async () => await host.run(id, "cat /dev/shm/stress.exit 2>/dev/null; true") || undefined,
    "its end",
  );
  const log = await host.run(id, "cat /root/stress.log");
  assertEquals(await host.run(id, "cat /dev/shm/stress.exit"), "0", log);
  assertStringIncludes(log, "successful run completed");
  assertEquals(log.split("\n").filter((line) => line.includes("fail:")), []);
});

async function startHasher(host: TestHostAgent, id: string): Promise<void> {
  const program = btoa(await Deno.readTextFile(HASHER));
  await host.run(
    id,
    `echo ${program} | base64 -d > /root/hasher.py
     nohup python3 /root/hasher.py /dev/shm/rounds > /root/hasher.log 2>&1 &`,
  );
}

/** Waits until the hasher has got further than `before`. @returns how far it is. */
async function roundsAfter(host: TestHostAgent, id: string, before: number): Promise<number> {
  return await eventually(async () => {
    const rounds = Number(await host.run(id, "cat /root/hasher.log >&2; cat /dev/shm/rounds 2>/dev/null || echo 0"));
    return rounds > before ? rounds : undefined;
  }, `round ${before + 1} of the hasher`);
}

/** Waits until the stressor has used some CPU time since the last call's exec. */
async function busyFor(host: TestHostAgent, id: string): Promise<void> {
  const ticks = async () =>
    Number(
      await host.run(id, "cat /proc/[0-9]*/stat | awk '$2 ~ /stress-ng-vm|ld-linux/ {sum += $14} END {print sum + 0}'"),
    );
  const before = await ticks();
  await eventually(async () => await ticks() > before + 20 || undefined, "work of stress-ng");
}

/** It was mounted when the VM stopped: `-f` checks it all the same, `-n` changes nothing. */
async function requireSoundDisk(path: string): Promise<void> {
  const { code, stdout } = await new Deno.Command("e2fsck", { args: ["-fn", path], stderr: "null" }).output();
  assertEquals(code, 0, new TextDecoder().decode(stdout));
}
