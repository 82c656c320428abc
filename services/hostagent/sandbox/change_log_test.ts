import { assertEquals } from "@std/assert";
import { ChangeLog, type Stamp } from "./change_log.ts";

type State = Record<string, number>;
const stampOf = ([id, value]: [string, number]): [string, Stamp] => [id, [value]];

function look(log: ChangeLog, state: State): bigint {
  log.observe(Object.entries(state), stampOf);
  return log.revision;
}

Deno.test("changes, beginnings and ends since a revision, each once", () => {
  const log = new ChangeLog();
  const first = look(log, { a: 1, b: 1 });
  assertEquals(log.since(log.epoch, 0n), { complete: true, ids: new Set(["a", "b"]) });
  assertEquals(log.since(log.epoch, first), { complete: true, ids: new Set<string>() });
  look(log, { a: 2, b: 1 });
  const third = look(log, { a: 3, c: 1 });
  assertEquals(log.since(log.epoch, first), { complete: true, ids: new Set(["a", "c", "b"]) });
  assertEquals(look(log, { a: 3, c: 1 }), third);
  assertEquals(log.since(log.epoch, third), { complete: true, ids: new Set<string>() });
});

Deno.test("another run's revision and one from the future are gaps", () => {
  const log = new ChangeLog();
  const revision = look(log, { a: 1 });
  assertEquals(log.since("another", revision).complete, false);
  assertEquals(log.since(log.epoch, revision + 1n).complete, false);
});

Deno.test("changes that were forgotten are a gap, newer ones are not", () => {
  const log = new ChangeLog();
  const many = Object.fromEntries(Array.from({ length: 50_000 }, (_, i) => [`s${i}`, 0]));
  const first = look(log, many);
  for (let value = 1; value < 4; value++) look(log, Object.fromEntries(Object.keys(many).map((id) => [id, value])));
  assertEquals(log.since(log.epoch, first).complete, false);
  assertEquals(log.since(log.epoch, log.revision - 1n), { complete: true, ids: new Set(["s49999"]) });
});

Deno.test("a sandbox that went away and came back between two looks is one change", () => {
  const log = new ChangeLog();
  const first = look(log, { a: 1 });
  look(log, {});
  look(log, { a: 1 });
  assertEquals(log.since(log.epoch, first), { complete: true, ids: new Set(["a"]) });
});
