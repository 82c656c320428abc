import { type CommandDef, defineCommand } from "citty";

type Loader = () => Promise<CommandDef>;

/** Every command, loaded when it is used: the start of the program stays short. */
export const commands: Record<string, Loader> = {
  demo: async () => (await import("./demo.ts")).demo,
  up: async () => (await import("./up.ts")).up,
  down: async () => (await import("./down.ts")).down,
  status: async () => (await import("./status.ts")).status,
  doctor: async () => (await import("./doctor.ts")).doctor,
  logs: async () => (await import("./logs.ts")).logs,
  sandbox: async () => (await import("./sandbox.ts")).sandbox,
  exec: async () => (await import("./exec.ts")).exec,
  attach: async () => (await import("./attach.ts")).attach,
  cp: async () => (await import("./cp.ts")).cp,
  port: async () => (await import("./port.ts")).port,
  pause: async () => (await import("./pause.ts")).pause,
  resume: async () => (await import("./resume.ts")).resume,
  checkpoint: async () => (await import("./checkpoint.ts")).checkpoint,
  fork: async () => (await import("./fork.ts")).fork,
  host: async () => (await import("./host.ts")).host,
  snapshot: async () => (await import("./snapshot.ts")).snapshot,
  webhook: async () => (await import("./webhook.ts")).webhook,
  team: async () => (await import("./team.ts")).team,
  key: async () => (await import("./key.ts")).key,
  audit: async () => (await import("./audit.ts")).audit,
  usage: async () => (await import("./usage.ts")).usage,
  trace: async () => (await import("./trace.ts")).trace,
  mcp: async () => (await import("./mcp.ts")).mcp,
  test: async () => (await import("./run_tests.ts")).runTests,
  bench: async () => (await import("./bench.ts")).bench,
};

/** The program. */
export const root: CommandDef = defineCommand({
  meta: { name: "torpor", description: "microVM sandboxes that sleep and wake" },
  subCommands: commands,
});
