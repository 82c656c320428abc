import { copySparse, memfdCreate, openFile, pread, pwrite, spawn } from "@torpor/ffi";
import { extentsOf, ZERO_SOURCE } from "@torpor/snapshot";
import type { TestHostAgent } from "@torpor/testing/hostagent";
import { openGuestChannel } from "../../../services/hostagent/guest/mod.ts";
import { verifySnapshot } from "../../../services/hostagent/snapshot/committed.ts";
import type { SandboxPaths } from "../../../services/hostagent/storage/layout.ts";
import type { VmmConfig } from "../../../services/hostagent/vmm/driver.ts";
import { type Accelerator, restoreArguments } from "../../../services/hostagent/vmm/qemu/command_line.ts";
import { Qmp } from "../../../services/hostagent/vmm/qemu/qmp.ts";
import { VMM_FDS, VmmFiles } from "../../../services/hostagent/vmm/qemu/vmm_files.ts";
import { fillMemory, startHost } from "./host.ts";
import { median, timed } from "./median.ts";

const QEMU = "/usr/bin/qemu-system-x86_64";
const MEMORY_MB = 1024;
const ROUNDS = 3;
const CHUNK_BYTES = 1 << 20;
const TIMEOUT_MS = 120_000;

/**
 * A lazy resume by QEMU's own restore of the same guest, which reads all memory first: from the start of a VMM until the
 * guest's agent answers.
 */
export async function benchFullRestore(): Promise<Record<string, number>> {
  await using host = await startHost();
  const sandboxId = await host.create({ memoryMb: MEMORY_MB });
  await fillMemory(host, sandboxId, MEMORY_MB / 2);
  await host.client.pauseSandbox({ sandboxId });
  const lazy: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    lazy.push((await timed(() => host.client.resumeSandbox({ sandboxId }))).ms);
    await host.client.pauseSandbox({ sandboxId });
  }
  const full = await fullRestores(host, sandboxId);
  return {
    lazy_over_full_restore_1024: median(lazy) / median(full),
    lazy_restore_ms_1024: median(lazy),
    full_restore_ms_1024: median(full),
  };
}

async function fullRestores(host: TestHostAgent, sandboxId: string): Promise<number[]> {
  const directory = await Deno.makeTempDir({ dir: "/tmp", prefix: "torpor-" });
  try {
    const stream = `${directory}/stream`;
    const config = await prepare(host, sandboxId, directory);
    await writeStream(host, sandboxId, config, stream);
    const times: number[] = [];
    for (let round = 0; round < ROUNDS; round++) times.push(await restoreFromStream(config, stream));
    return times;
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

type Prepared = VmmConfig & { accelerator: Accelerator };

/** Paths of a VMM of our own, and a disk with what the snapshot's has. */
async function prepare(host: TestHostAgent, sandboxId: string, directory: string): Promise<Prepared> {
  const { manifest } = host.agent.manager.get(sandboxId).newest!;
  const paths = Object.fromEntries(
    Object.entries(host.layout.sandbox(sandboxId)).map((
      [name, path],
    ) => [name, `${directory}/${path.split("/").at(-1)}`]),
  ) as unknown as SandboxPaths;
  using from = openFile(host.layout.snapshot(manifest.snapshot_id).disk, { read: true });
  using to = openFile(paths.disk, { read: true, write: true, create: true });
  await Deno.truncate(paths.disk, manifest.files.disk.bytes);
  await copySparse({ from: from.fd, to: to.fd, sizeBytes: manifest.files.disk.bytes });
  const baseImage = `${host.layout.cache}/base/${manifest.base_image}/base.ext4`;
  const { accelerator } = manifest.vmm;
  return {
    sandboxId,
    paths,
    vcpus: manifest.vcpus,
    memoryMb: manifest.memory_mb,
    memoryFd: -1,
    diskBytes: manifest.files.disk.bytes,
    baseImage,
    accelerator,
  };
}

/** Restores the snapshot with all of its memory, and lets QEMU write a migration stream with memory and devices. */
async function writeStream(host: TestHostAgent, sandboxId: string, config: Prepared, path: string): Promise<void> {
  const { manifest, table } = await verifySnapshot(
    host.layout,
    host.agent.manager.get(sandboxId).record.snapshot_id!,
  );
  using memory = memfdCreate("full-restore", config.memoryMb * 2 ** 20);
  const buffer = new Uint8Array(CHUNK_BYTES);
  for (const { offset, length, source, sourceOffset } of extentsOf(table)) {
    if (source === ZERO_SOURCE) continue;
    using file = openFile(host.layout.snapshot(table.sources[source]!).memoryData, { read: true });
    for (let done = 0; done < length; done += CHUNK_BYTES) {
      const chunk = buffer.subarray(0, Math.min(CHUNK_BYTES, length - done));
      await pread(file.fd, chunk, sourceOffset + done);
      await pwrite(memory.fd, chunk, offset + done);
    }
  }
  await using vmm = await start({ ...config, memoryFd: memory.fd });
  using state = openFile(host.layout.snapshot(manifest.snapshot_id).state, { read: true });
  await migrate(vmm.qmp, "migrate-incoming", state.fd, true);
  using stream = openFile(path, { write: true, create: true, truncate: true });
  await vmm.qmp.execute("migrate-set-parameters", { "max-bandwidth": 2 ** 40 });
  await migrate(vmm.qmp, "migrate", stream.fd, false);
}

async function restoreFromStream(config: Prepared, path: string): Promise<number> {
  using memory = memfdCreate("full-restore", config.memoryMb * 2 ** 20);
  const started = performance.now();
  await using vmm = await start({ ...config, memoryFd: memory.fd });
  using stream = openFile(path, { read: true });
  await migrate(vmm.qmp, "migrate-incoming", stream.fd, false);
  await vmm.qmp.execute("cont");
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  await using channel = await openGuestChannel({ socketPath: config.paths.agentSocket, signal });
  await channel.ping();
  return performance.now() - started;
}

async function start(config: Prepared) {
  using files = new VmmFiles(config);
  const process = spawn({
    path: QEMU,
    argv: [QEMU, ...restoreArguments(config, config)],
    env: {},
    cwd: "/",
    descriptors: [{ childFd: VMM_FDS.memory, fd: config.memoryFd }, ...files.descriptors],
    stderrFd: 2,
    deathSignal: 9,
  });
  files[Symbol.dispose]();
  const qmp = await Qmp.connect(config.paths.qmpSocket, AbortSignal.timeout(TIMEOUT_MS));
  return {
    qmp,
    async [Symbol.asyncDispose]() {
      await process[Symbol.asyncDispose]();
      await qmp[Symbol.asyncDispose]();
    },
  };
}

/** Runs a migration in either direction over a descriptor and waits for its end. */
async function migrate(qmp: Qmp, command: "migrate" | "migrate-incoming", fd: number, ignoreShared: boolean) {
  await qmp.execute("migrate-set-capabilities", {
    capabilities: [
      { capability: "x-ignore-shared", state: ignoreShared },
      { capability: "events", state: true },
    ],
  });
  const settled = qmp.event(
    ({ event, data }) => event === "MIGRATION" && (data.status === "completed" || data.status === "failed"),
    "the end of the migration",
    TIMEOUT_MS,
  );
  await qmp.execute("getfd", { fdname: "stream" }, { descriptor: fd });
  await qmp.execute(command, { uri: "fd:stream" });
  const { data } = await settled;
  if (data.status === "failed") throw new Error(`${command} failed`);
}
