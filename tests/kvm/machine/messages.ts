/**
 * What the program inside the machine tells over the serial port: JSON, one message a line, behind a mark that no other
 * output begins with.
 */
export type LaneMessage =
  | { type: "started"; facts: Facts }
  | { type: "scenario-started"; name: string }
  | { type: "scenario"; result: ScenarioResult }
  | { type: "ended" };

/** Measured or observed values by name. */
export type Facts = Record<string, string | number | boolean>;

/** How one scenario ended. */
export interface ScenarioResult {
  name: string;
  /** `unsupported`: the host agent does not have what it needs yet. */
  outcome: "passed" | "failed" | "timed_out" | "unsupported";
  ms: number;
  /** Why it did not pass; else empty. */
  message: string;
  facts: Facts;
}

const MARK = "@torpor-kvm ";

/** The line that carries a message. */
export function formatMessage(message: LaneMessage): string {
  return MARK + JSON.stringify(message);
}

/** The message in a line of the serial port, or undefined when it is something else or was garbled. */
export function parseMessage(line: string): LaneMessage | undefined {
  const at = line.indexOf(MARK);
  if (at < 0) return undefined;
  try {
    return JSON.parse(line.slice(at + MARK.length)) as LaneMessage;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
