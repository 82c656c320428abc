import { assertEquals, assertThrows } from "@std/assert";
import { readJunit } from "./junit.ts";

Deno.test("a report's cases are counted by their result, and failures keep their message", () => {
  const outcome = readJunit(`<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="deno test" tests="4" failures="2" errors="0" time="0.1">
  <testsuite name="./a_test.ts" tests="4" disabled="1" errors="0" failures="2">
    <testcase name="good &lt;case&gt;" classname="./a_test.ts" time="0.0"></testcase>
    <testcase name="bad" classname="./a_test.ts"><failure message="Error: no">at line &amp; so</failure></testcase>
    <testcase name="worse" classname="./a_test.ts"><error message="leak"><![CDATA[ of <op>]]></error></testcase>
    <testcase name="later" classname="./a_test.ts"><skipped/></testcase>
  </testsuite>
</testsuites>`);
  assertEquals(outcome, {
    passed: 1,
    failed: 2,
    skipped: 1,
    failures: [
      { name: "./a_test.ts > bad", message: "Error: noat line & so" },
      { name: "./a_test.ts > worse", message: "leak of <op>" },
    ],
  });
});

Deno.test("a failed test is told with its own file, not with the one that the report names", () => {
  const xml =
    `<testsuite><testcase name="bad" classname="./deadline.ts"><failure message="no"/></testcase></testsuite>`;
  assertEquals(readJunit(xml, new Map([["bad", "./a_test.ts"]])).failures[0]!.name, "./a_test.ts > bad");
});

Deno.test("a report that was cut off is refused", () => {
  assertThrows(() => readJunit(`<testsuites><testsuite name="x"><testcase name="y">`));
});
