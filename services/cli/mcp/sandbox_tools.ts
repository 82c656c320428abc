import { Sandbox, type SandboxInfo, SandboxState } from "@torpor/sdk";
import { z } from "zod";
import { tool } from "./tool.ts";

const input = { sandbox_id: z.string().describe("Id of the sandbox") };

const createSandbox = tool({
  name: "create_sandbox",
  title: "Create a sandbox",
  description:
    "Creates a Linux microVM for running code, and returns its id. It keeps files and processes until it is " +
    "deleted, also while it is paused. With `snapshot`, it goes on where that was taken.",
  input: {
    template: z.string().optional().describe('What it boots from. Default "base"'),
    snapshot: z.string().optional().describe("Id or name of a snapshot to go on from, instead of a template"),
    vcpus: z.int().min(1).max(16).optional(),
    memory_mb: z.int().min(128).max(65_536).optional().describe("Default 512"),
    timeout_sec: z.int().min(0).optional().describe("Idle seconds after which it is paused; 0: never"),
    allow_internet_access: z.boolean().optional().describe("Default true"),
  },
  async run({ memory_mb, timeout_sec, allow_internet_access, ...others }, { connection }) {
    const network = allow_internet_access === undefined ? undefined : { allowInternetAccess: allow_internet_access };
    const request = { ...others, memoryMb: memory_mb, timeoutSec: timeout_sec, network };
    return { sandbox_id: (await Sandbox.create({ ...connection, ...request })).id };
  },
});

const listSandboxes = tool({
  name: "list_sandboxes",
  title: "List sandboxes",
  description: "All sandboxes, newest first, with their states.",
  input: { limit: z.int().min(1).max(1000).default(100) },
  annotations: { readOnlyHint: true },
  async run({ limit }, { connection }) {
    const sandboxes = [];
    for await (const sandbox of Sandbox.list({ ...connection, pageSize: limit })) {
      if (sandboxes.push(factsOf(sandbox)) === limit) break;
    }
    return { sandboxes };
  },
});

const pauseSandbox = tool({
  name: "pause_sandbox",
  title: "Pause a sandbox",
  description: "Saves memory and processes to disk and frees the machine. It can be resumed at any time.",
  input,
  annotations: { idempotentHint: true },
  async run({ sandbox_id }, { open }) {
    await (await open(sandbox_id)).pause();
    return { state: "paused" };
  },
});

const resumeSandbox = tool({
  name: "resume_sandbox",
  title: "Resume a sandbox",
  description: "Brings a paused sandbox back where it was.",
  input,
  annotations: { idempotentHint: true },
  async run({ sandbox_id }, { open }) {
    await (await open(sandbox_id)).resume();
    return { state: "running" };
  },
});

const forkSandbox = tool({
  name: "fork_sandbox",
  title: "Fork a sandbox",
  description: "Makes sandboxes that go on where this one is, with its memory, processes and files; it goes on, too.",
  input: { ...input, count: z.int().min(1).max(32).default(1) },
  async run({ sandbox_id, count }, { open }) {
    const children = await (await open(sandbox_id)).fork(count);
    return { sandbox_ids: children.map(({ id }) => id) };
  },
});

const deleteSandbox = tool({
  name: "delete_sandbox",
  title: "Delete a sandbox",
  description: "Deletes it with its files for good.",
  input,
  annotations: { destructiveHint: true, idempotentHint: true },
  async run({ sandbox_id }, { open }) {
    await (await open(sandbox_id)).delete();
    return { state: "deleted" };
  },
});

/** Sandboxes as a whole. */
export const SANDBOX_TOOLS = [createSandbox, listSandboxes, pauseSandbox, resumeSandbox, forkSandbox, deleteSandbox];

function factsOf({ sandboxId, state, template, memoryMb, metadata }: SandboxInfo) {
  return { sandbox_id: sandboxId, state: SandboxState[state].toLowerCase(), template, memory_mb: memoryMb, metadata };
}
