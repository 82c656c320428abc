import type { z } from "zod";
import { isErrorCode, TorporError } from "@torpor/errors";
import type { fileInput, writeFileInput } from "../inputs/file.ts";
import type { Caller } from "../keys/caller.ts";
import type { Api } from "./api.ts";
import { runningSandbox } from "./running_sandbox.ts";

/** The bytes of a file on their way. */
export interface FileContent {
  body: ReadableStream<Uint8Array>;
  /** Undefined when it is not known before the end (files of /proc). */
  sizeBytes: number | undefined;
}

/**
 * Opens a file for reading. The bytes flow as the reader takes them; when the sandbox dies midway the stream fails.
 * @param signal ends the transfer.
 * @throws TorporError `sandbox_not_found`, `conflict`, `file_not_found`, `permission_denied`, `file_precondition`.
 */
export async function readFile(
  api: Api,
  caller: Caller,
  sandboxId: string,
  input: z.output<typeof fileInput>,
  signal: AbortSignal,
): Promise<FileContent> {
  const response = await dataRoute(api, caller, sandboxId, { path: input.path, user: input.user }, {
    signal: AbortSignal.any([signal, api.stopping]),
  });
  const length = response.headers.get("content-length");
  return { body: response.body ?? new Blob([]).stream(), sizeBytes: length === null ? undefined : Number(length) };
}

/**
 * Writes a file from a stream of any size; readers see the old file or the whole new one. A `content` that fails midway
 * leaves the old file.
 * @param signal ends the transfer and leaves the old file.
 * @throws TorporError `sandbox_not_found`, `conflict`, `permission_denied`, `no_space`, `file_precondition`.
 */
export async function writeFile(
  api: Api,
  caller: Caller,
  sandboxId: string,
  input: z.output<typeof writeFileInput>,
  content: ReadableStream<Uint8Array> | Uint8Array<ArrayBuffer>,
  signal: AbortSignal,
): Promise<void> {
  const query: Record<string, string> = { path: input.path, user: input.user };
  if (input.mode !== 0) query.mode = input.mode.toString(8);
  const response = await dataRoute(api, caller, sandboxId, query, {
    method: "PUT",
    body: content,
    signal: AbortSignal.any([signal, api.stopping]),
  });
  await response.body?.cancel();
}

/** Calls the host agent's route for the bytes of files: plain HTTP bodies, which hold back a fast sender by themselves. */
async function dataRoute(
  api: Api,
  caller: Caller,
  sandboxId: string,
  query: Record<string, string>,
  init: RequestInit,
): Promise<Response> {
  const { host } = await runningSandbox(api, caller, sandboxId);
  const url = `${host.http.baseUrl}/sandboxes/${sandboxId}/files?${new URLSearchParams(query)}`;
  let response: Response;
  try {
    response = await host.http.fetch(url, { ...init, headers: { authorization: `Bearer ${api.hosts.token}` } });
  } catch (thrown) {
    throw transferError(thrown, init.signal);
  }
  if (response.ok) return response;
  throw await answeredError(response);
}

function transferError(thrown: unknown, signal: AbortSignal | null | undefined): TorporError {
  if (signal?.aborted) return new TorporError("canceled", "the transfer was given up", { cause: thrown });
  return new TorporError("unavailable", "the transfer to the host broke off", { cause: thrown });
}

/** The error in a host agent's JSON answer. */
async function answeredError(response: Response): Promise<TorporError> {
  let body: { code?: unknown; message?: unknown; field?: unknown; hint?: unknown } = {};
  try {
    body = await response.json();
  } catch (thrown) {
    return new TorporError("internal", `the host answered ${response.status} without a reason`, { cause: thrown });
  }
  const text = (value: unknown) => typeof value === "string" ? value : undefined;
  const code = text(body.code);
  return new TorporError(
    code !== undefined && isErrorCode(code) ? code : "internal",
    text(body.message) ?? `the host answered ${response.status}`,
    { field: text(body.field), hint: text(body.hint) },
  );
}
