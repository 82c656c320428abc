import { assertEquals, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { Operations } from "./operations.ts";

const SANDBOX = "s".repeat(20);
const OPERATION = "o".repeat(20);

Deno.test("a repeated operation joins the running one and later gets its result", async () => {
  const operations = new Operations();
  const gate = Promise.withResolvers<number>();
  let runs = 0;
  const run = () =>
    operations.run(OPERATION, SANDBOX, "pause", () => {
      runs++;
      return gate.promise;
    });
  const both = [run(), run()];
  assertEquals(operations.status(OPERATION)?.state, "running");
  gate.resolve(7);
  assertEquals(await Promise.all(both), [7, 7]);
  assertEquals([await run(), runs, operations.status(OPERATION)?.state], [7, 1, "succeeded"]);
});

Deno.test("a failed operation keeps its error for whoever asks", async () => {
  const operations = new Operations();
  const fail = () =>
    operations.run(OPERATION, SANDBOX, "pause", () => Promise.reject(new TorporError("no_space", "x")));
  assertEquals((await assertRejects(fail, TorporError)).code, "no_space");
  assertEquals((await assertRejects(fail, TorporError)).code, "no_space");
  const status = operations.status(OPERATION);
  assertEquals([status?.state, status?.error?.code], ["failed", "no_space"]);
});

Deno.test("an operation id belongs to one kind and one sandbox", async () => {
  const operations = new Operations();
  await operations.run(OPERATION, SANDBOX, "pause", () => Promise.resolve());
  const other = "t".repeat(20);
  for (const wrong of [() => operations.run(OPERATION, other, "pause", () => Promise.resolve())]) {
    assertEquals((await assertRejects(wrong, TorporError)).field, "operation_id");
  }
  const kind = () => operations.run(OPERATION, SANDBOX, "resume", () => Promise.resolve());
  assertEquals((await assertRejects(kind, TorporError)).code, "invalid_argument");
});

Deno.test("old operations are forgotten, running ones are not", async () => {
  const operations = new Operations();
  const gate = Promise.withResolvers<void>();
  const running = operations.run("r".repeat(20), SANDBOX, "pause", () => gate.promise);
  const idOf = (i: number) => String(i).padStart(20, "0");
  for (let i = 0; i < 5000; i++) await operations.run(idOf(i), SANDBOX, "pause", () => Promise.resolve());
  assertEquals(operations.status(idOf(0)), undefined);
  assertEquals(operations.status(idOf(4999))?.state, "succeeded");
  assertEquals(operations.status("r".repeat(20))?.state, "running");
  gate.resolve();
  await running;
  await operations.idle();
});
