import { assertEquals } from "@std/assert";
import { type Scenario, timed } from "../lane.ts";

const COUNT = 2;

/** Sandboxes that pause and resume at the same time keep apart. */
export const siblings: Scenario = {
  name: "siblings",
  async run(lane) {
    const ids = await Promise.all(Array.from({ length: COUNT }, () => lane.create()));
    const each = async <T>(work: (id: string) => Promise<T>) => await Promise.all(ids.map(work));
    const sums = await each((id) =>
      lane.exec(id, "head -c 8000000 /dev/urandom > /dev/shm/own; md5sum < /dev/shm/own; echo $$ > /root/own; sync")
    );
    const [, ms] = await timed(async () => {
      await each((sandboxId) => lane.client.pauseSandbox({ sandboxId }));
      await each((sandboxId) => lane.client.resumeSandbox({ sandboxId }));
    });
    assertEquals(await each((id) => lane.exec(id, "md5sum < /dev/shm/own")), sums);
    assertEquals(new Set(sums).size, COUNT);
    return { pause_and_resume_ms: ms };
  },
};
