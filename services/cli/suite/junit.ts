import { SaxesParser } from "saxes";
import { addOutcomes, NOTHING, type Outcome } from "./outcome.ts";

/**
 * Reads a JUnit report, as `deno test --junit-path` writes it: each test case counts once, by whether it has a failure,
 * an error or a skipped element.
 * @param fileOf the files of failed tests by their names. The report names the file that called Deno.test, which is the one
 *   that sets the deadline.
 * @throws Error when the text is no well-formed XML.
 */
export function readJunit(xml: string, fileOf: ReadonlyMap<string, string> = new Map()): Outcome {
  let outcome = NOTHING;
  let current: { name: string; result: "passed" | "failed" | "skipped"; message: string } | undefined;
  const parser = new SaxesParser();
  parser.on("opentag", ({ name, attributes }) => {
    if (name === "testcase") {
      const { name = "", classname = "" } = attributes;
      const file = fileOf.get(name) ?? classname;
      current = { name: [file, name].filter(Boolean).join(" > "), result: "passed", message: "" };
    } else if (current && (name === "failure" || name === "error")) {
      current.result = "failed";
      current.message = attributes.message ?? "";
    } else if (current && name === "skipped") {
      current.result = "skipped";
    }
  });
  const addText = (text: string) => {
    if (current?.result === "failed") current.message += text;
  };
  parser.on("text", addText);
  parser.on("cdata", addText);
  parser.on("closetag", ({ name }) => {
    if (name !== "testcase" || !current) return;
    const { result } = current;
    const failures = result === "failed" ? [{ name: current.name, message: current.message.trim() }] : [];
    outcome = addOutcomes(outcome, { ...NOTHING, [result]: 1, failures });
    current = undefined;
  });
  parser.on("error", (error) => {
    throw error;
  });
  parser.write(xml).close();
  return outcome;
}
