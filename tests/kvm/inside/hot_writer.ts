import { assertEquals, assertGreater } from "@std/assert";
import type { Lane } from "./lane.ts";

const PAGES = 512;
const ROUNDS_FILE = "/dev/shm/hot-rounds";
/** A pattern that does not match the command line which it stands in. */
const ITSELF = "'hot[.]py'";
const ERRORS_FILE = "/dev/shm/hot-errors";

/**
 * Writes the number of its round into each of its pages, one after the other, and looks first whether the page has the
 * number of the round before. A snapshot that has one page from before its instant, or from after, is noticed by the
 * process itself when it goes on.
 */
const PROGRAM = `
import mmap, struct, time
size = 4096
with open("/dev/shm/hot", "wb+") as file:
    file.truncate(${PAGES} * size)
    memory = mmap.mmap(file.fileno(), ${PAGES} * size)
done = 0
while True:
    for page in range(${PAGES}):
        found = struct.unpack_from("<Q", memory, page * size)[0]
        if found != done:
            with open("${ERRORS_FILE}", "a") as errors:
                errors.write(f"page {page}: round {found} instead of {done}\\n")
        struct.pack_into("<Q", memory, page * size, done + 1)
    done += 1
    with open("${ROUNDS_FILE}", "w") as rounds:
        rounds.write(str(done))
    time.sleep(0.05)
`;

/** Starts the process, and waits for its first round. */
export async function startHotWriter(lane: Lane, sandboxId: string): Promise<void> {
  const encoded = new TextEncoder().encode(PROGRAM).toBase64();
  await lane.exec(
    sandboxId,
    `echo ${encoded} | base64 -d > /root/hot.py
     nohup python3 /root/hot.py > /dev/null 2>> ${ERRORS_FILE} &
     until [ -s ${ROUNDS_FILE} ]; do sleep 0.2; done`,
  );
}

/** Throws when the process has found a wrong page or does not go on. Returns its rounds. */
export async function checkHotWriter(lane: Lane, sandboxId: string): Promise<number> {
  // Two whole rounds: each page has been looked at since.
  const answer = await lane.exec(
    sandboxId,
    `first=$(cat ${ROUNDS_FILE}); now=$first
     until [ -n "$now" ] && [ "$now" -ge $((first + 2)) ]; do pgrep -f ${ITSELF} > /dev/null || break; sleep 0.2; now=$(cat ${ROUNDS_FILE}); done
     echo $first $now; cat ${ERRORS_FILE}`,
  );
  const [rounds, ...errors] = answer.split("\n");
  assertEquals(errors, []);
  const [first, now] = rounds!.split(" ").map(Number) as [number, number];
  assertGreater(now, first);
  return now;
}

/** Ends the process: it takes half of a processor that all sandboxes share. */
export async function stopHotWriter(lane: Lane, sandboxId: string): Promise<void> {
  await lane.exec(sandboxId, `pkill -f ${ITSELF}`);
}
