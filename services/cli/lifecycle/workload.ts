import type { GuestShell } from "./guest_shell.ts";

const DATA = "/dev/shm/torpor-data";
const COUNTER = "/dev/shm/torpor-counter";
const TICK = "/dev/shm/torpor-tick";
const FILL_TIMEOUT_SEC = 600;

/** What runs and lies in a guest's memory before a pause, to be found again after the resume. */
export interface Workload {
  /** Made new by each boot of a kernel. */
  bootId: string;
  /** SHA-256 of a file of random bytes in a tmpfs: its bytes are in guest memory only. */
  checksum: string;
  /** A process that counts, its pid and its start time in the guest. */
  pid: number;
  startTime: string;
}

/** What {@linkcode verifyWorkload} found. */
export interface Verification {
  samePid: boolean;
  counterAfter: number;
  preserved: boolean;
}

/** The guest's boot id: the cheapest command that also tells a resumed guest from a rebooted one. */
export async function readBootId(shell: GuestShell): Promise<string> {
  return await shell.run(["/bin/cat", "/proc/sys/kernel/random/boot_id"]);
}

/** Fills guest memory with random bytes; returns their checksum. */
export async function fillMemory(shell: GuestShell, megabytes: number): Promise<string> {
  const fill = `head -c ${megabytes}M /dev/urandom > ${DATA} && sha256sum < ${DATA}`;
  return await shell.script(fill, FILL_TIMEOUT_SEC);
}

/** Starts a process that holds a number in its memory and counts it up once a second. */
export async function startCounter(shell: GuestShell): Promise<{ pid: number; startTime: string }> {
  // It waits in the shell itself, on a pipe into which nobody writes: a program started for each tick, and more ticks
  // than one a second, would compete with what is measured.
  const count = `exec 3<> ${TICK}; n=0; while :; do n=$((n + 1)); echo $n > ${COUNTER}; read -rt 1 _ <&3; done`;
  const started = await shell.script(
    `mkfifo ${TICK}; setsid bash -c '${count}' < /dev/null > /dev/null 2>&1 & echo $! && ${waitFor(2)}`,
  );
  const pid = Number(started);
  return { pid, startTime: await startTimeOf(shell, pid) };
}

/** What the counter shows now. */
export async function readCounter(shell: GuestShell): Promise<number> {
  return Number(await shell.script(`until read -r n < ${COUNTER} && [ -n "$n" ]; do :; done; echo "$n"`));
}

/** Looks in the guest whether everything is as it was before the pause and goes on. */
export async function verifyWorkload(
  shell: GuestShell,
  before: Workload,
  counterBefore: number,
  bootIdAfter: string,
): Promise<Verification> {
  const samePid = await startTimeOf(shell, before.pid) === before.startTime;
  // Waits until the counter has passed its old value: a process that hangs, or one that began anew, does not in time.
  const counterAfter = Number(await shell.script(`${waitFor(counterBefore + 1)}; echo "\${n:-0}"`, 60));
  const checksum = await shell.script(`sha256sum < ${DATA}`, FILL_TIMEOUT_SEC);
  const preserved = samePid && counterAfter > counterBefore && checksum === before.checksum &&
    bootIdAfter === before.bootId;
  return { samePid, counterAfter, preserved };
}

/** A script that waits, at most 20 s, until the counter shows at least `count`; the variable n has what it shows. */
function waitFor(count: number): string {
  return `for _ in $(seq 200); do read -r n < ${COUNTER}; [ "\${n:-0}" -ge ${count} ] && break; sleep 0.1; done`;
}

async function startTimeOf(shell: GuestShell, pid: number): Promise<string> {
  // Fields after the name, which ends with the last ")": the start time is number 22 of all.
  return await shell.script(`s=$(cat /proc/${pid}/stat 2>/dev/null); set -- \${s##*)}; echo "\${20:-gone}"`);
}
