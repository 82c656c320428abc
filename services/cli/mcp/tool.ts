import type { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import type { ToolAnnotations } from "@modelcontextprotocol/sdk/types.js";
import { asTorporError } from "@torpor/errors";
import { type ConnectionOptions, Sandbox } from "@torpor/sdk";
import { z } from "zod";

/** Whom a tool acts for. */
export interface ToolContext {
  connection: ConnectionOptions;
  /** A sandbox as it is. */
  open(id: string): Promise<Sandbox>;
  /** A sandbox that runs: a paused one is resumed. */
  wake(id: string): Promise<Sandbox>;
}

/** Something that a model can do. */
export interface Tool {
  name: string;
  title: string;
  description: string;
  input: z.ZodObject;
  annotations?: ToolAnnotations;
  /** Returns text, or what becomes JSON. */
  run(args: unknown, context: ToolContext): Promise<unknown>;
}

/** A {@linkcode Tool} whose `run` gets what `input` describes. */
export function tool<Shape extends z.ZodRawShape>(
  definition: Omit<Tool, "input" | "run"> & {
    input: Shape;
    run(args: z.infer<z.ZodObject<Shape>>, context: ToolContext): Promise<unknown>;
  },
): Tool {
  return { ...definition, input: z.object(definition.input) } as Tool;
}

/** Adds tools to a server; they act as the key of `connection`. */
export function addTools(server: McpServer, tools: readonly Tool[], connection: ConnectionOptions): void {
  const open = (id: string) => Sandbox.connect(id, connection);
  const wake = async (id: string) => {
    const sandbox = await open(id);
    if (!await sandbox.isRunning()) await sandbox.resume();
    return sandbox;
  };
  for (const { name, title, description, input, annotations, run } of tools) {
    const shape: Record<string, z.ZodType> = input.shape;
    const config = { title, description, inputSchema: shape, annotations };
    server.registerTool(name, config, (args: unknown) => answer(() => run(args, { connection, open, wake })));
  }
}

/** A model is told what went wrong and what to do about it; a protocol error would end its work. */
async function answer(work: () => Promise<unknown>) {
  const result = (value: unknown) => {
    const text = typeof value === "string" ? value : JSON.stringify(value);
    return { content: [{ type: "text" as const, text }] };
  };
  try {
    return result(await work());
  } catch (thrown) {
    const { code, message, field, hint } = asTorporError(thrown);
    return { ...result({ code, message, field, hint }), isError: true };
  }
}
