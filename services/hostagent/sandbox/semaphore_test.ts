import { assertEquals, assertRejects } from "@std/assert";
import { Semaphore } from "./semaphore.ts";

Deno.test("no more than the given number run at once, and all get their turn", async () => {
  const semaphore = new Semaphore(2);
  let running = 0;
  let most = 0;
  const work = async (value: number) => {
    most = Math.max(most, ++running);
    await Promise.resolve();
    running--;
    return value;
  };
  const results = await Promise.all([1, 2, 3, 4, 5].map((value) => semaphore.with(() => work(value))));
  assertEquals([results, most, running], [[1, 2, 3, 4, 5], 2, 0]);
});

Deno.test("work that throws gives its slot back", async () => {
  const semaphore = new Semaphore(1);
  await assertRejects(() => semaphore.with(() => Promise.reject(new Error("failed"))));
  assertEquals(await semaphore.with(() => Promise.resolve(1)), 1);
});
