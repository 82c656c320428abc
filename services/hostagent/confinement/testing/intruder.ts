import { memfdCreate, preadSync, spawn } from "@torpor/ffi";
import type { Seat } from "../jail.ts";

/** What an intruder finds on a host, for it to reach at. */
export interface Targets {
  /** A process of somebody else's. */
  pid: number;
  /** A directory of another sandbox. */
  directory: string;
  /** A unix socket that somebody listens on. */
  socket: string;
}

const LEASE_FD = 9;
const OUTPUT_BYTES = 1 << 16;

/**
 * Perl, which every Debian has: each expression is true where the attempt succeeds. Each is made by a process of its own. Numbers are
 * system calls of x86_64.
 */
function attempts({ pid, directory, socket }: Targets): Record<string, string> {
  return {
    "read /etc/shadow": `open(F, "<", "/etc/shadow")`,
    "list another sandbox's directory": `opendir(D, "${directory}")`,
    "read another sandbox's disk": `open(F, "<", "${directory}/disk.raw")`,
    "write below /usr": `open(F, ">", "/usr/torpor-intruder") && unlink("/usr/torpor-intruder")`,
    "write in the root": `open(F, ">", "/torpor-intruder") && unlink("/torpor-intruder")`,
    "write in /tmp": `open(F, ">", "/tmp/torpor-intruder") && unlink("/tmp/torpor-intruder")`,
    "open /dev/kmsg": `open(F, "<", "/dev/kmsg")`,
    "open /dev/userfaultfd": `open(F, "+<", "/dev/userfaultfd")`,
    "signal another process": `kill(0, ${pid}) == 1`,
    "see another process": `-e "/proc/${pid}"`,
    "read another process's environment": `open(F, "<", "/proc/${pid}/environ")`,
    "trace another process": `syscall(101, 0x4206, ${pid}, 0, 0) == 0`,
    "read another process's memory": `syscall(310, ${pid}, 0, 0, 0, 0, 0) == 0`,
    "make an internet socket": `socket(S, 2, 1, 0)`,
    "make a packet socket": `socket(S, 17, 3, 0)`,
    "make a netlink socket": `socket(S, 16, 3, 0)`,
    "connect to a unix socket": `socket(S, 1, 1, 0) && connect(S, pack("S a108", 1, "${socket}"))`,
    "make a user namespace": `syscall(272, 0x10000000) == 0`,
    "make a mount namespace by clone": `($p = syscall(56, 0x00020000 | 17, 0, 0, 0, 0)) >= 0 && ($p || exit(0))`,
    "mount":
      `(@m = ("tmpfs", "${directory}")) && syscall(165, $m[0], $m[1], $m[0], 0, 0) == 0 && syscall(166, $m[1], 2) == 0`,
    "make a device": `($n = "/dev/torpor-intruder") && syscall(133, $n, 020600, 0x103) == 0 && unlink($n)`,
    "become another user": `syscall(117, 4242, 4242, 4242) == 0`,
    "change the host's name": `($h = "$h0") && syscall(170, $h, length($h)) == 0`,
    "use io_uring": `($u = "\\0" x 120) && syscall(425, 8, $u) >= 0`,
    "make a map for programs in the kernel":
      `($b = pack("L4", 1, 4, 4, 1) . ("\\0" x 56)) && syscall(321, 0, $b, 72) >= 0`,
    "set the clock": `($t = pack("q2", time, 0)) && syscall(227, 0, $t) == 0`,
    "raise its own priority": `setpriority(0, 0, -15)`,
    "raise its limit of core dumps": `($l = pack("Q2", 1 << 10, 1 << 10)) && syscall(160, 4, $l) == 0`,
  };
}

/**
 * Tries everything, in the place that a seat gives, or without any.
 * @returns the attempts that have succeeded, and how many there were.
 */
export async function intrude(targets: Targets, seat?: Seat): Promise<{ succeeded: string[]; tried: number }> {
  const all = attempts(targets);
  const lines = Object.entries(all).map(([name, attempt]) =>
    `if (!fork) { POSIX::_exit(eval { ${attempt} } ? 0 : 1) } wait; print "${name}\\t", ($? ? "no" : "yes"), "\\n";`
  );
  const program = ["$| = 1; use POSIX ();", "$h0 = (POSIX::uname())[1];", ...lines].join("\n");
  const output = await runPerl(program, seat);
  const results = output.trim().split("\n").map((line) => line.split("\t"));
  const answered = new Set(results.map(([name]) => name));
  const silent = Object.keys(all).filter((name) => !answered.has(name));
  if (silent.length > 0) throw new Error(`no answer to ${silent.join(", ")}: ${output.slice(-500)}`);
  return { succeeded: results.flatMap(([name, done]) => done === "yes" ? [name!] : []), tried: results.length };
}

/** Runs a Perl program to its end and returns what it has said. */
export async function runPerl(program: string, seat?: Seat): Promise<string> {
  using output = memfdCreate("intruder", OUTPUT_BYTES);
  await using process = spawnPerl(program, output.fd, seat);
  seat?.taken(process);
  await process.exited;
  const bytes = new Uint8Array(OUTPUT_BYTES);
  preadSync(output.fd, bytes, 0);
  return new TextDecoder().decode(bytes).replace(/\0+$/, "");
}

/** Starts a Perl program whose output goes to a file. */
export function spawnPerl(program: string, outputFd: number, seat?: Seat) {
  return spawn({
    path: "/usr/bin/perl",
    argv: ["perl", "-e", program],
    env: { PATH: "/usr/bin" },
    cwd: "/",
    descriptors: seat?.descriptors ?? [],
    stdoutFd: outputFd,
    stderrFd: outputFd,
    ...seat?.options,
  });
}

/** The number of the lease in a seat for {@linkcode runPerl}. */
export const INTRUDER_LEASE_FD = LEASE_FD;
