import type { Lane } from "./lane.ts";

/** Bytes of random data that {@linkcode prepare} leaves in memory; enough that a resume need not touch them all. */
export const RANDOM_BYTES = 40_000_000;

/**
 * Leaves in the guest: a process that counts into a file which it keeps open, random bytes in memory and on disk, and a
 * file that {@linkcode rewrite} changes.
 */
const PREPARE = `
  cat > /root/count.sh <<'END'
  exec 9>>/dev/shm/counted 8<> <(:)
  i=0
  while true; do i=$((i+1)); echo $i >&9; read -t 0.2 -u 8; done
END
  nohup bash /root/count.sh >/dev/null 2>&1 &
  echo $! > /dev/shm/pid
  head -c ${RANDOM_BYTES} /dev/urandom > /dev/shm/random
  head -c 4000000 /dev/urandom > /root/on-disk
  head -c 4000000 /dev/urandom > /dev/shm/rewritten
  sync`;

const SUMS = "cat /dev/shm/pid; kill -0 $(cat /dev/shm/pid) && md5sum /dev/shm/random /root/on-disk /dev/shm/rewritten";

/** Puts the workload into a sandbox and returns its state, for {@linkcode stateOf}. */
export async function prepare(lane: Lane, sandboxId: string): Promise<string> {
  await lane.exec(sandboxId, PREPARE);
  return await stateOf(lane, sandboxId);
}

/** The running process and the checksums of all data, in one text: equal texts, equal bytes. */
export async function stateOf(lane: Lane, sandboxId: string): Promise<string> {
  return await lane.exec(sandboxId, SUMS);
}

/** The last number that the process has counted. */
export async function countOf(lane: Lane, sandboxId: string): Promise<number> {
  return Number(await lane.exec(sandboxId, "tail -n 1 /dev/shm/counted"));
}

/** Changes pages in all ways: to zeros, to new bytes, written and given back. Returns the new state. */
export async function rewrite(lane: Lane, sandboxId: string): Promise<string> {
  await lane.exec(
    sandboxId,
    `dd if=/dev/zero of=/dev/shm/rewritten bs=4096 count=400 conv=notrunc 2>/dev/null
     dd if=/dev/urandom of=/dev/shm/rewritten bs=4096 count=100 seek=500 conv=notrunc 2>/dev/null
     dd if=/dev/urandom of=/root/on-disk bs=4096 count=50 seek=100 conv=notrunc 2>/dev/null
     head -c 3000000 /dev/urandom > /dev/shm/gone; rm /dev/shm/gone; sync`,
  );
  return await stateOf(lane, sandboxId);
}
