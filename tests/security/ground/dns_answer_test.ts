import { assertEquals } from "@std/assert";
import { answer, readQuestion } from "./dns_answer.ts";

/** A question for `a.test`, type A, as a resolver sends it. */
function query(type: number): Uint8Array {
  return Uint8Array.from([
    1,
    2,
    1,
    0,
    0,
    1,
    0,
    0,
    0,
    0,
    0,
    0,
    1,
    97,
    4,
    ...new TextEncoder().encode("test"),
    0,
    0,
    type,
    0,
    1,
  ]);
}

Deno.test("a question is read, and answered with the addresses of its family", () => {
  const question = readQuestion(query(1))!;
  assertEquals([question.name, question.type], ["a.test", 1]);
  const message = answer(query(1), question, ["1.2.3.4", "2001:db8::1"], 60);
  assertEquals(Array.from(message.subarray(0, 12)), [1, 2, 133, 128, 0, 1, 0, 1, 0, 0, 0, 0]);
  assertEquals(Array.from(message.subarray(-4)), [1, 2, 3, 4]);
  const message6 = answer(query(28), readQuestion(query(28))!, ["1.2.3.4", "2001:db8::1"], 60);
  assertEquals(Array.from(message6.subarray(-16)), [0x20, 1, 0xd, 0xb8, ...Array(11).fill(0), 1]);
});

Deno.test("a name that nobody has is said not to exist, and what is no question is not answered", () => {
  const question = readQuestion(query(1))!;
  assertEquals(answer(query(1), question, undefined, 60)[3]! & 15, 3);
  assertEquals(readQuestion(new Uint8Array(12)), undefined);
  assertEquals(readQuestion(query(1).subarray(0, 20)), undefined);
});
