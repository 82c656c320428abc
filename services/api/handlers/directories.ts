import type { z } from "zod";
import { TorporError } from "@torpor/errors";
import type { FileInfo } from "@torpor/proto/hostagent";
import type { fileInput, listDirectoryInput, removeFileInput } from "../inputs/file.ts";
import type { Caller } from "../keys/caller.ts";
import type { Api } from "./api.ts";
import { runningSandbox } from "./running_sandbox.ts";

/** A large directory, or a deep one, takes a guest under load some time. */
const DIRECTORY_TIMEOUT_MS = 60_000;

/**
 * Describes one path; a symbolic link is described itself.
 * @throws TorporError `sandbox_not_found`, `conflict`, `file_not_found`, `permission_denied`.
 */
export async function statFile(
  api: Api,
  caller: Caller,
  sandboxId: string,
  input: z.output<typeof fileInput>,
): Promise<FileInfo> {
  const { host } = await runningSandbox(api, caller, sandboxId);
  const { file } = await host.rpc.statFile({ sandboxId, ...input });
  if (!file) throw new TorporError("internal", "the host described no file");
  return file;
}

/**
 * Lists a directory, sorted by path.
 * @throws TorporError `sandbox_not_found`, `conflict`, `file_not_found`, `permission_denied`, `file_precondition`.
 */
export async function listDirectory(
  api: Api,
  caller: Caller,
  sandboxId: string,
  input: z.output<typeof listDirectoryInput>,
): Promise<FileInfo[]> {
  const { host } = await runningSandbox(api, caller, sandboxId);
  return (await host.rpc.listDirectory({ sandboxId, ...input }, { timeoutMs: DIRECTORY_TIMEOUT_MS })).files;
}

/**
 * Makes a directory and its missing parents.
 * @throws TorporError `sandbox_not_found`, `conflict`, `permission_denied`, `already_exists`, `no_space`.
 */
export async function makeDirectory(
  api: Api,
  caller: Caller,
  sandboxId: string,
  input: z.output<typeof fileInput>,
): Promise<void> {
  const { host } = await runningSandbox(api, caller, sandboxId);
  await host.rpc.makeDirectory({ sandboxId, ...input });
}

/**
 * Removes a file, or a directory when recursive.
 * @throws TorporError `sandbox_not_found`, `conflict`, `file_not_found`, `permission_denied`, `file_precondition`.
 */
export async function removeFile(
  api: Api,
  caller: Caller,
  sandboxId: string,
  input: z.output<typeof removeFileInput>,
): Promise<void> {
  const { host } = await runningSandbox(api, caller, sandboxId);
  await host.rpc.removeFile({ sandboxId, ...input }, { timeoutMs: DIRECTORY_TIMEOUT_MS });
}
