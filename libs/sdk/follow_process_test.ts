import { assertEquals, assertRejects } from "@std/assert";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type ErrorCode, TorporError } from "@torpor/errors";
import { AttachProcessResponseSchema } from "@torpor/proto/torpor";
import { followProcess, type Position, type ProcessMessages } from "./follow_process.ts";

type Event = NonNullable<MessageInitShape<typeof AttachProcessResponseSchema>["event"]>;

const started: Event = { case: "started", value: { pid: 7, startedAtUnixMs: 5n } };
const output = (sequence: number, text: string): Event => ({
  case: "output",
  value: { sequence: BigInt(sequence), data: { case: "stdout", value: new TextEncoder().encode(text) } },
});
const exited: Event = { case: "exited", value: { exitCode: 3 } };

/** A stream of these events, which ends or fails behind them. */
async function* stream(events: Event[], failure?: ErrorCode): ProcessMessages {
  for (const event of events) yield create(AttachProcessResponseSchema, { event });
  if (failure) throw new TorporError(failure, "broken");
}

/** Follows streams one after the other. */
async function follow(streams: ProcessMessages[], giveUpMs = 60_000) {
  const seen = { text: "", notices: [] as string[], attached: [] as Position[], pids: [] as number[] };
  const next = () => streams.shift() ?? stream([], "unavailable");
  const followed = followProcess({
    open: next,
    attach(position) {
      seen.attached.push({ ...position });
      return next();
    },
    started: (pid) => void seen.pids.push(pid),
    output(_stream, data) {
      seen.text += new TextDecoder().decode(data);
      return Promise.resolve();
    },
    notice: (text) => void seen.notices.push(text),
  }, { firstDelayMs: 1, longestDelayMs: 1, giveUpMs });
  return { ...seen, seen, followed };
}

Deno.test("a broken stream is taken up behind what was received", async () => {
  const { seen, followed } = await follow([
    stream([started, output(1, "a"), output(4, "b")], "unavailable"),
    stream([], "guest_unreachable"),
    stream([started, output(5, "c")]),
    stream([started, exited]),
  ]);
  const end = await followed;
  assertEquals(end.kind === "exited" && [end.exited.exitCode, end.lost], [3, false]);
  assertEquals([seen.text, seen.pids], ["abc", [7]]);
  assertEquals(seen.attached.map(({ afterSequence }) => afterSequence), [4n, 4n, 5n]);
  assertEquals(seen.attached[0], { pid: 7, startedAtUnixMs: 5n, afterSequence: 4n });
  assertEquals(seen.notices.length, 4);
});

Deno.test("what was lost meanwhile is told, and a pause ends it with its place", async () => {
  const gap: Event = { case: "gap", value: { firstLostSequence: 2n, lastLostSequence: 9n, lostBytes: 70n } };
  const { seen, followed } = await follow([
    stream([started, output(1, "a")], "canceled"),
    stream([started, gap, output(10, "b"), { case: "paused", value: {} }]),
  ]);
  assertEquals(await followed, {
    kind: "paused",
    position: { pid: 7, startedAtUnixMs: 5n, afterSequence: 10n },
    lost: true,
  });
  assertEquals([seen.text, seen.notices.some((text) => text.includes("70 bytes"))], ["ab", true]);
});

Deno.test("errors that another attempt does not help against are thrown, and the last one when none has helped", async () => {
  const codeOf = async (streams: ProcessMessages[], giveUpMs?: number) =>
    (await assertRejects(async () => (await follow(streams, giveUpMs)).followed, TorporError)).code;
  assertEquals(await codeOf([stream([], "unavailable")]), "unavailable", "nothing was started");
  assertEquals(await codeOf([stream([started], "vm_gone")]), "vm_gone");
  const broken = () => stream([started], "unavailable");
  assertEquals(await codeOf([broken(), stream([], "process_not_found")]), "process_not_found");
  assertEquals(await codeOf([broken()], 20), "unavailable");
});
