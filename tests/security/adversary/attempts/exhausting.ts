/** Attempts to take more than one's share: processes, memory, disk, console, connections, packets. */
import { INTERNET_PORTS, PUBLIC } from "../../ground/mod.ts";
import type { Arena } from "../arena.ts";
import { type Attempt, unless } from "../attempt.ts";
import { hostUse } from "../host_use.ts";

const MIB = 2 ** 20;
/** What a VMM needs besides its guest's memory. */
const OVERHEAD_MB = 256;
/** Emulated guests share two processors with each other. */
const VICTIM_MS = 15_000;

/** Something that takes all it can in the intruder's guest, and what must hold on the host meanwhile and afterwards. */
interface Exhaustion {
  name: string;
  quick?: boolean;
  /** A command line in the guest; how it ends does not matter. */
  command: string;
  /** What the command must have come to, from its output: otherwise it shows nothing. */
  took?: (output: string) => boolean;
  /** What the host has too much of; undefined: it is within bounds. */
  excess: (arena: Arena) => Promise<string | undefined>;
}

function exhausting({ name, quick = false, command, took, excess }: Exhaustion): Attempt {
  return {
    name,
    quick,
    control: async (arena) => await victimAnswers(arena) ?? await excess(arena),
    async attack(arena) {
      const taking = arena.intruder.exec(command, []);
      const meanwhile = await victimAnswers(arena);
      const { stdout, stderr } = await taking;
      if (meanwhile) return meanwhile;
      if (took && !took(stdout)) throw new Error(`${command}: ${stdout} ${stderr}`);
      return await victimAnswers(arena) ?? await excess(arena);
    },
  };
}

async function victimAnswers({ victim }: Arena): Promise<string | undefined> {
  const began = performance.now();
  const said = await victim.shell("echo alive");
  const ms = performance.now() - began;
  return unless(said, "alive") ?? (ms > VICTIM_MS ? `the victim needed ${Math.round(ms)} ms for an echo` : undefined);
}

const limit = (what: string, value: number, most: number) =>
  value > most ? `${what}: ${value}, at most ${most}` : undefined;

/** All of them. */
export const exhaustingAttempts: Attempt[] = [
  exhausting({
    name: "fork bomb",
    quick: true,
    command: "exec /usr/local/bin/probe fork 5",
    took: (output) => Number(output) > 100,
    excess: async (arena) => limit("threads of the VMM", (await hostUse(arena)).threads, 64),
  }),
  exhausting({
    name: "memory bomb",
    quick: true,
    command: "/usr/local/bin/probe memory 4096; echo $?",
    took: (output) => output !== "0",
    excess: async (arena) => {
      const { residentBytes, guestBytes } = await hostUse(arena);
      return limit("MiB of the VMM", Math.round(residentBytes / MIB), guestBytes / MIB + OVERHEAD_MB);
    },
  }),
  exhausting({
    name: "full disk",
    quick: false,
    command: "head -c 4G /dev/zero | tr '\\\\0' x > /home/user/fill; df --output=avail / | tail -1; rm /home/user/fill",
    took: (output) => Number(output) < 4096,
    excess: async (arena) => {
      const { diskBytes, diskLimitBytes } = await hostUse(arena);
      return limit("bytes of the disk", diskBytes, diskLimitBytes);
    },
  }),
  exhausting({
    name: "console flood",
    quick: false,
    command: "head -c 768K /dev/zero | tr '\\\\0' x > /dev/ttyS0; echo flooded",
    took: (output) => output.includes("flooded"),
    excess: async (arena) => limit("bytes of console log", (await hostUse(arena)).consoleBytes, 640 * 1024),
  }),
  exhausting({
    name: "packet flood",
    quick: true,
    command: `/usr/local/bin/probe flood ${PUBLIC.web} ${INTERNET_PORTS.echo} 64 3`,
    took: (output) => Number(output) > 1000,
    excess: networkWorks,
  }),
  exhausting({
    name: "a crowd of connections",
    quick: false,
    command: `/usr/local/bin/probe crowd ${PUBLIC.web} ${INTERNET_PORTS.sink} 6000 8000`,
    took: (output) => output !== "",
    excess: async (arena) =>
      await networkWorks(arena) ?? limit("connections the host keeps track of", (await hostUse(arena)).tracked, 8192),
  }),
];

/** The victim's network is as it was. */
async function networkWorks({ victim }: Arena): Promise<string | undefined> {
  return unless(await victim.probe("connect", PUBLIC.bystander, INTERNET_PORTS.echo, 10_000, ""), "open");
}
