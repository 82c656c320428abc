import { assertEquals } from "@std/assert";
import { answer, query, readQuestion } from "./dns_answer.ts";

Deno.test("a question is read, and answered with the addresses of its family", () => {
  const question = readQuestion(query("a.test"))!;
  assertEquals([question.name, question.type], ["a.test", 1]);
  const message = answer(query("a.test"), question, ["1.2.3.4", "2001:db8::1"], 60);
  assertEquals(Array.from(message.subarray(0, 12)), [0x5e, 0xed, 133, 128, 0, 1, 0, 1, 0, 0, 0, 0]);
  assertEquals(Array.from(message.subarray(-4)), [1, 2, 3, 4]);
  const message6 = answer(
    query("a.test", "AAAA"),
    readQuestion(query("a.test", "AAAA"))!,
    ["1.2.3.4", "2001:db8::1"],
    60,
  );
  assertEquals(Array.from(message6.subarray(-16)), [0x20, 1, 0xd, 0xb8, ...Array(11).fill(0), 1]);
});

Deno.test("a name that nobody has is said not to exist, and what is no question is not answered", () => {
  const question = readQuestion(query("a.test"))!;
  assertEquals(answer(query("a.test"), question, undefined, 60)[3]! & 15, 3);
  assertEquals(readQuestion(new Uint8Array(12)), undefined);
  assertEquals(readQuestion(query("a.test").subarray(0, 20)), undefined);
});
