import type { Api } from "../../../services/cli/client/api.ts";
import { median, timed } from "./median.ts";

const ROUNDS = 5;
const TIMEOUT_SEC = 600;

/** Resumes of sandboxes of several sizes (MiB, ascending), and the largest by the smallest. */
export async function benchResumes(api: Api, sizesMb: number[]): Promise<Record<string, number>> {
  const figures: Record<string, number> = {};
  for (const memoryMb of sizesMb) Object.assign(figures, await benchResume(api, memoryMb));
  const [least, most] = [sizesMb[0]!, sizesMb.at(-1)!];
  figures[`resume_${most}_over_${least}`] = figures[`resume_ms_${most}`]! / figures[`resume_ms_${least}`]!;
  return figures;
}

/**
 * Resumes of a sandbox half of whose memory holds random data, until a command has run through the api; and what a pause
 * of it takes and stores.
 */
async function benchResume(api: Api, memoryMb: number): Promise<Record<string, number>> {
  const { sandbox } = await api.sandboxes.createSandbox({ memoryMb });
  const { sandboxId } = sandbox!;
  const run = async (cmd: string) => {
    const answer = await api.sandboxes.exec({ sandboxId, cmd, user: "root", timeoutSec: TIMEOUT_SEC });
    if (answer.exitCode !== 0) throw new Error(`${cmd}: ${new TextDecoder().decode(answer.stderr)}`);
  };
  try {
    await run("mount -o remount,size=90% /dev/shm");
    await run(`head -c ${memoryMb / 2}M /dev/urandom > /dev/shm/data`);
    await run("cat /proc/sys/kernel/random/boot_id");
    await api.sandboxes.pauseSandbox({ sandboxId });
    const resumes: number[] = [];
    const pauses: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const { ms } = await timed(async () => {
        await api.sandboxes.resumeSandbox({ sandboxId });
        await run("cat /proc/sys/kernel/random/boot_id");
      });
      resumes.push(ms);
      pauses.push((await timed(() => api.sandboxes.pauseSandbox({ sandboxId }))).ms);
    }
    const figures = { [`resume_ms_${memoryMb}`]: median(resumes), [`pause_ms_${memoryMb}`]: median(pauses) };
    return memoryMb === 1024 ? { ...figures, ...await pauseBytes(api, sandboxId, run) } : figures;
  } finally {
    await api.sandboxes.deleteSandbox({ sandboxId });
  }
}

/** What a later generation stores, all files of it but the disk, by the bytes that the guest is known to have written. */
async function pauseBytes(api: Api, sandboxId: string, run: (cmd: string) => Promise<void>) {
  const written = 256 * 2 ** 20;
  await api.sandboxes.resumeSandbox({ sandboxId });
  await run("rm /dev/shm/data && head -c 256M /dev/urandom > /dev/shm/more");
  const { sandbox } = await api.sandboxes.pauseSandbox({ sandboxId });
  const { sizeBytes, diskBytes, pagesDirty } = sandbox!.snapshot!;
  const stored = Number(sizeBytes - diskBytes);
  return {
    pause_bytes_over_dirty_bytes: stored / (Number(pagesDirty) * 4096),
    pause_bytes_over_written_bytes: stored / written,
  };
}
