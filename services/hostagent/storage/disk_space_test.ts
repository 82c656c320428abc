import { assert, assertEquals, assertRejects } from "@std/assert";
import { statfs } from "node:fs/promises";
import { TorporError } from "@torpor/errors";
import { DiskSpace } from "./disk_space.ts";

const NEW = { mayUseReserve: false };
const PAUSE = { mayUseReserve: true };

async function freeBytes(): Promise<number> {
  const { bavail, bsize } = await statfs("/dev/shm");
  return bavail * bsize;
}

Deno.test("the reserve is for pauses; what cannot fit is refused", async () => {
  const free = await freeBytes();
  let full = 0;
  const space = new DiskSpace("/dev/shm", free * 2, () => full++);
  const refused = await assertRejects(() => space.claim(0, NEW), TorporError);
  assertEquals(refused.code, "no_space");
  assertEquals([await space.isFull(), full], [true, 1]);
  using _pause = await space.claim(4096, PAUSE);
  await assertRejects(() => space.claim(free * 3, PAUSE), TorporError);
  const roomy = new DiskSpace("/dev/shm", 0);
  assertEquals(await roomy.isFull(), false);
  using _new = await roomy.claim(0, NEW);
});

Deno.test("what is claimed is not given out twice, and is free again afterwards", async () => {
  const most = await freeBytes() * 0.6;
  const space = new DiskSpace("/dev/shm", 0);
  const claims = await Promise.allSettled([1, 2, 3].map(() => space.claim(most, NEW)));
  const granted = claims.filter((claim) => claim.status === "fulfilled");
  assertEquals(granted.length, 1);
  granted[0]!.value[Symbol.dispose]();
  using again = await space.claim(most, NEW);
  assert(again);
});
