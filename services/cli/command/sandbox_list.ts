import { timestampDate } from "@bufbuild/protobuf/wkt";
import { type Sandbox, SandboxState } from "@torpor/proto/torpor";
import { apiTarget, openApi } from "../client/api.ts";
import { listSandboxes } from "../client/list_sandboxes.ts";
import { sandboxJson, stateName } from "../client/sandbox_view.ts";
import { formatAge, formatBytes } from "../terminal/format.ts";
import { type Paint, paintFor, type Style } from "../terminal/paint.ts";
import { formatTable } from "../terminal/table.ts";
import { defineAction } from "./define.ts";
import { UsageError } from "./exit_codes.ts";
import { printJson } from "./print.ts";

/** `torpor sandbox ls` */
export const sandboxList = defineAction({
  name: "ls",
  description: "List sandboxes, newest first",
  args: { state: { type: "string", description: "Only these states, separated by commas (running, paused, …)" } },
  async run({ args }) {
    const states = (args.state ?? "").split(",").filter((name) => name !== "").map(stateOf);
    using api = openApi(await apiTarget());
    const sandboxes = await Array.fromAsync(listSandboxes(api, states));
    if (args.json) return printJson({ sandboxes: sandboxes.map(sandboxJson) });
    if (sandboxes.length === 0) return console.log("No sandboxes. Make one: ./torpor sandbox create");
    const paint = paintFor(Deno.stdout);
    const header = ["ID", "STATE", "TEMPLATE", "VCPUS", "MEMORY", "AGE", "SNAPSHOT"];
    console.log(formatTable([header, ...sandboxes.map((sandbox) => row(sandbox, paint))]));
  },
});

function row(sandbox: Sandbox, paint: Paint): string[] {
  return [
    sandbox.sandboxId,
    paint(stateStyle(sandbox.state), stateName(sandbox.state)) + (sandbox.reason && ` (${sandbox.reason})`),
    sandbox.template,
    String(sandbox.vcpus),
    `${sandbox.memoryMb} MiB`,
    sandbox.createdAt ? formatAge(timestampDate(sandbox.createdAt)) : "",
    sandbox.snapshot ? formatBytes(Number(sandbox.snapshot.sizeBytes)) : "",
  ];
}

/** The colour of a state. */
export function stateStyle(state: SandboxState): Style {
  if (state === SandboxState.RUNNING) return "green";
  if (state === SandboxState.PAUSED) return "blue";
  return state === SandboxState.FAILED || state === SandboxState.LOST ? "red" : "yellow";
}

function stateOf(name: string): SandboxState {
  const state = SandboxState[name.toUpperCase() as keyof typeof SandboxState];
  if (typeof state === "number" && state !== SandboxState.UNSPECIFIED) return state;
  throw new UsageError(`unknown state: ${name}`);
}
