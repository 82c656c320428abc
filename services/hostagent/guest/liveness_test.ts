import { assertEquals } from "@std/assert";
import type { TorporError } from "@torpor/errors";
import { watchLiveness } from "./liveness.ts";

const times = { checkMs: 1, silenceMs: 0, answerMs: 5 };

Deno.test("a guest that leaves a ping unanswered is given up", async () => {
  const failed = Promise.withResolvers<TorporError>();
  let pings = 0;
  const stop = watchLiveness({
    isIdle: () => false,
    lastReceivedMs: () => -Infinity,
    ping: (signal) => {
      pings++;
      return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    },
    fail: failed.resolve,
  }, times);
  assertEquals((await failed.promise).code, "guest_unreachable");
  assertEquals(pings, 1);
  stop();
});

Deno.test("a guest that answers is asked again, and never without need", async () => {
  const asked = Promise.withResolvers<void>();
  let idle = true;
  let checks = 0;
  let pings = 0;
  const stop = watchLiveness({
    isIdle: () => {
      if (++checks === 3) {
        assertEquals(pings, 0);
        idle = false;
      }
      return idle;
    },
    lastReceivedMs: () => -Infinity,
    ping: () => {
      if (++pings === 3) asked.resolve();
      return Promise.resolve();
    },
    fail: (error) => asked.reject(error),
  }, times);
  await asked.promise;
  stop();
});
