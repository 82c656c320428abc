import { assert, assertEquals, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { eventually, processesWith, startTestHostAgent, type TestHostAgent } from "@torpor/testing/hostagent";
import { sandboxProcesses } from "../../crash/matrix/sandbox_processes.ts";

async function codeOf(call: Promise<unknown>): Promise<string> {
  return (await assertRejects(() => call, TorporError)).code;
}

async function infoOf(host: TestHostAgent, sandboxId: string) {
  return (await host.client.getSandbox({ sandboxId })).sandbox!;
}

function namesIn(directory: string): string[] {
  return [...Deno.readDirSync(directory)].map(({ name }) => name).sort();
}

const PAUSE_STEPS = [
  "pause.stop",
  "pause.device_state",
  "pause.dirty_scan",
  "pause.export_memory",
  "pause.disk",
  "pause.commit",
];

Deno.test("a pause that fails at any step leaves the sandbox running, and the next one succeeds", async (t) => {
  let failAt = "";
  await using host = await startTestHostAgent({
    overrides: {
      onStep: (step) => {
        if (step === failAt) throw new Deno.errors.PermissionDenied("injected");
      },
    },
  });
  const id = await host.create();
  await host.run(id, "head -c 4000000 /dev/urandom > /dev/shm/random");
  const checksum = await host.run(id, "md5sum /dev/shm/random");
  // Once for a booted VM, once for a resumed one: their dirty pages are found in different ways.
  for (const origin of ["booted", "resumed"]) {
    for (const step of PAUSE_STEPS) {
      await t.step(`${origin}: ${step}`, async () => {
        failAt = step;
        assertEquals(await codeOf(host.client.pauseSandbox({ sandboxId: id })), "pause_failed");
        assertEquals((await infoOf(host, id)).status, "running");
        assertEquals(namesIn(host.layout.staging), []);
        assertEquals(await host.run(id, "md5sum /dev/shm/random"), checksum);
      });
    }
    failAt = "";
    await host.client.pauseSandbox({ sandboxId: id });
    await host.client.resumeSandbox({ sandboxId: id });
    assertEquals((await infoOf(host, id)).reason, "");
    assertEquals(await host.run(id, "md5sum /dev/shm/random"), checksum);
  }
});

const RESUME_STEPS = [
  "resume.verify",
  "resume.disk",
  "resume.network",
  "resume.spawn_pager",
  "resume.spawn_vmm",
  "resume.load_device_state",
  "resume.start_vcpus",
  "resume.guest_hello",
];

Deno.test("a resume that fails at any step leaves the sandbox paused and nothing running", async (t) => {
  let failAt = "";
  await using host = await startTestHostAgent({
    overrides: {
      onStep: (step) => {
        if (step === failAt) throw new Deno.errors.PermissionDenied("injected");
      },
    },
  });
  const id = await host.create();
  await host.run(id, "echo kept > /dev/shm/mark");
  await host.client.pauseSandbox({ sandboxId: id });
  for (const step of RESUME_STEPS) {
    await t.step(step, async () => {
      failAt = step;
      assertEquals(await codeOf(host.client.resumeSandbox({ sandboxId: id })), "resume_failed");
      const { status, reason } = await infoOf(host, id);
      assertEquals([status, reason], ["paused", "resume_failed"]);
      assertEquals(await processesWith(host.layout.home), []);
      assert(!namesIn(host.layout.sandbox(id).directory).includes("disk.raw"));
    });
  }
  failAt = "";
  await host.client.resumeSandbox({ sandboxId: id });
  assertEquals(await host.run(id, "cat /dev/shm/mark"), "kept");
});

Deno.test("a pager that is killed while its guest is resumed fails the resume, and no deadline has to", async () => {
  let killAt = "";
  await using host = await startTestHostAgent({
    overrides: {
      onStep: (step) => {
        if (step !== killAt) return;
        const [pager] = sandboxProcesses(host.layout.home).filter(({ kind }) => kind === "pager");
        Deno.kill(pager!.pid, "SIGKILL");
      },
    },
  });
  const id = await host.create();
  await host.run(id, "echo kept > /dev/shm/mark");
  await host.client.pauseSandbox({ sandboxId: id });
  for (killAt of ["resume.load_device_state", "resume.start_vcpus", "resume.guest_hello"]) {
    assertEquals(await codeOf(host.client.resumeSandbox({ sandboxId: id })), "pager_failed");
    assertEquals((await infoOf(host, id)).status, "paused");
    assertEquals(await processesWith(host.layout.home), []);
  }
  killAt = "";
  await host.client.resumeSandbox({ sandboxId: id });
  assertEquals(await host.run(id, "cat /dev/shm/mark"), "kept");
});

Deno.test("a creation that fails leaves nothing", async () => {
  await using host = await startTestHostAgent({
    overrides: {
      onStep: (step) => {
        if (step === "create.boot") throw new Deno.errors.PermissionDenied("injected");
      },
    },
  });
  assertEquals(await codeOf(host.create()), "vm_start_failed");
  assertEquals(namesIn(host.layout.sandboxes), []);
  assertEquals(await processesWith(host.layout.home), []);
  assertEquals((await host.client.listSandboxes({})).sandboxes, []);
});

Deno.test("a VM that is killed is reported: failed without a snapshot, else paused at its newest one", async () => {
  await using host = await startTestHostAgent();
  const id = await host.create();
  const vmm = () => host.agent.manager.get(id).vm!.vmm.process.signal(9);
  await host.run(id, "echo first > /dev/shm/mark");
  await host.client.pauseSandbox({ sandboxId: id });
  await host.client.resumeSandbox({ sandboxId: id });
  await host.run(id, "echo second > /dev/shm/mark");
  vmm();
  const gone = await eventually(async () => {
    const info = await infoOf(host, id);
    return info.status === "paused" ? info : undefined;
  }, "the sandbox as paused");
  assertEquals([gone.reason, gone.snapshot?.generation], ["vm_gone", 1]);
  // A pause now would acknowledge a state that is lost.
  assertEquals(await codeOf(host.client.pauseSandbox({ sandboxId: id })), "vm_gone");
  await host.client.resumeSandbox({ sandboxId: id });
  assertEquals(await host.run(id, "cat /dev/shm/mark"), "first");

  const other = await host.create();
  host.agent.manager.get(other).vm!.vmm.process.signal(9);
  const failed = await eventually(async () => {
    const info = await infoOf(host, other);
    return info.status === "failed" ? info : undefined;
  }, "the sandbox as failed");
  assertEquals(failed.reason, "vm_gone");
  assertEquals(await codeOf(host.client.resumeSandbox({ sandboxId: other })), "conflict");
  await host.client.destroySandbox({ sandboxId: other });
  assertEquals(await codeOf(host.client.getSandbox({ sandboxId: other })), "sandbox_not_found");
});

Deno.test("a pager that is killed gets a successor: no byte is wrong, no fault waits for ever", async () => {
  await using host = await startTestHostAgent();
  const id = await host.create();
  const digest = await host.run(id, "head -c 40M /dev/urandom > /dev/shm/data; sha256sum < /dev/shm/data");
  await host.client.pauseSandbox({ sandboxId: id });
  await host.client.resumeSandbox({ sandboxId: id });
  const { vm } = host.agent.manager.get(id);
  for (let killed = 1; killed <= 3; killed++) {
    const reading = host.run(id, "sha256sum < /dev/shm/data");
    const dead = vm!.pager!;
    dead.process.signal(9);
    await eventually(async () => vm!.pager !== dead ? true : undefined, "a successor");
    assertEquals(await reading, digest);
    assertEquals(vm!.pager!.stats().adoptions, killed);
  }
  // A restarted agent would find the last one.
  await eventually(async () => {
    const record = JSON.parse(await Deno.readTextFile(host.layout.sandbox(id).runningRecord));
    return record.vm.pager.pid === vm!.pager!.process.pid ? true : undefined;
  }, "the last pager in the record");
  await host.client.pauseSandbox({ sandboxId: id });
  await host.client.resumeSandbox({ sandboxId: id });
  assertEquals(await host.run(id, "sha256sum < /dev/shm/data"), digest);
});

Deno.test("a VM whose pager gives up is ended loudly, never left with a fault that waits", async () => {
  await using host = await startTestHostAgent();
  const id = await host.create();
  await host.run(id, "head -c 40M /dev/urandom > /dev/shm/data");
  const { snapshot } = await host.client.pauseSandbox({ sandboxId: id });
  const data = host.layout.snapshot(snapshot!.snapshotId).memoryData;
  const whole = await Deno.readFile(data);
  await host.client.resumeSandbox({ sandboxId: id });
  await Deno.truncate(data, 4096);
  const reading = host.run(id, "sha256sum < /dev/shm/data").catch((error) => error.code);
  const gone = await eventually(async () => {
    const info = await infoOf(host, id);
    return info.status === "paused" ? info : undefined;
  }, "the sandbox as paused");
  assertEquals(gone.reason, "pager_failed");
  // The pager may have read ahead before the command could begin.
  const refusal = await reading;
  assert(["guest_unreachable", "conflict"].includes(refusal), refusal);
  assertEquals(await processesWith(host.layout.home), []);
  assertEquals(await codeOf(host.client.resumeSandbox({ sandboxId: id })), "snapshot_corrupt");
  await Deno.writeFile(data, whole);
  await host.client.resumeSandbox({ sandboxId: id });
  assertEquals(await host.run(id, "echo alive"), "alive");
});

Deno.test("a damaged snapshot is refused, kept, and works again when the damage is undone", async (t) => {
  await using host = await startTestHostAgent();
  const id = await host.create();
  const { snapshot } = await host.client.pauseSandbox({ sandboxId: id });
  const paths = host.layout.snapshot(snapshot!.snapshotId);
  const damages: [string, string, (bytes: Uint8Array) => Uint8Array][] = [
    ["a flipped bit in the header", paths.memoryHeader, (bytes) => flipped(bytes, 70)],
    ["a header that ends early", paths.memoryHeader, (bytes) => bytes.subarray(0, bytes.length - 32)],
    ["a flipped bit in the device state", paths.state, (bytes) => flipped(bytes, 1000)],
    ["a manifest that ends early", paths.manifest, (bytes) => bytes.subarray(0, 100)],
    ["a memory file that ends early", paths.memoryData, (bytes) => bytes.subarray(0, bytes.length - 4096)],
  ];
  for (const [what, path, damage] of damages) {
    await t.step(what, async () => {
      const good = await Deno.readFile(path);
      await Deno.writeFile(path, damage(good));
      assertEquals(await codeOf(host.client.resumeSandbox({ sandboxId: id })), "snapshot_corrupt");
      assertEquals((await infoOf(host, id)).reason, "snapshot_corrupt");
      assertEquals(await processesWith(host.layout.home), []);
      await Deno.writeFile(path, good);
    });
  }
  await t.step("a missing file", async () => {
    await Deno.rename(paths.state, `${paths.state}.away`);
    assertEquals(await codeOf(host.client.resumeSandbox({ sandboxId: id })), "snapshot_missing");
    await Deno.rename(`${paths.state}.away`, paths.state);
  });
  await host.client.resumeSandbox({ sandboxId: id });
  assertEquals((await infoOf(host, id)).status, "running");
});

function flipped(bytes: Uint8Array, at: number): Uint8Array {
  const copy = bytes.slice();
  copy[at]! ^= 1;
  return copy;
}
