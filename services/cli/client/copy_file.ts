import { basename, join } from "@std/path";
import { TorporError } from "@torpor/errors";
import { putSized } from "./put_sized.ts";
import { requireSuccess } from "@torpor/sdk/rest_error";
import { writeAll } from "../terminal/write_all.ts";
import type { Api } from "./api.ts";
import type { CopyEnd } from "./copy_end.ts";

/** Bytes so far. */
export type OnBytes = (bytes: number) => void;

/** Streams a local file ("-": stdin) into a sandbox; returns the bytes. A destination that ends in "/" is a directory. */
export async function upload(
  api: Api,
  from: CopyEnd,
  to: CopyEnd,
  user: string | undefined,
  onBytes: OnBytes,
): Promise<number> {
  const path = to.path.endsWith("/") || to.path === "" ? to.path + basename(from.path) : to.path;
  const counter = new ByteCounter(onBytes);
  const headers = { "content-type": "application/octet-stream" };
  const target = dataPath({ ...to, path }, user);
  const source = from.path === "-" ? undefined : await openLocal(from.path);
  const body = (source ?? Deno.stdin).readable.pipeThrough(counter);
  const { isFile, size: length } = source ? await source.stat() : { isFile: false, size: 0 };
  if (isFile && length > 0) {
    const authorization = `Bearer ${api.target.key}`;
    const upload = { headers: { ...headers, authorization }, body, length };
    await requireSuccess(await putSized(api.target.url + target, upload));
  } else {
    // Pipes, devices and files of /proc do not tell their length.
    const response = await api.rest(target, { method: "PUT", headers, body });
    await response.body?.cancel();
  }
  return counter.bytes;
}

/**
 * Streams a file of a sandbox into a local one ("-": stdout); returns the bytes. The local file appears when it is
 * complete; a directory gets a file of the same name.
 */
export async function download(
  api: Api,
  from: CopyEnd,
  to: CopyEnd,
  user: string | undefined,
  onBytes: OnBytes,
): Promise<number> {
  const response = await api.rest(dataPath(from, user));
  const counter = new ByteCounter(onBytes);
  const body = (response.body ?? new Blob().stream()).pipeThrough(counter);
  if (to.path === "-") {
    for await (const chunk of body) await writeAll(Deno.stdout, chunk);
    return counter.bytes;
  }
  const target = await isDirectory(to.path) ? join(to.path, basename(from.path)) : to.path;
  const partial = `${target}.partial-${crypto.randomUUID().slice(0, 8)}`;
  try {
    await Deno.writeFile(partial, body, { createNew: true });
    await Deno.rename(partial, target);
  } catch (error) {
    await Deno.remove(partial).catch((gone) => {
      if (!(gone instanceof Deno.errors.NotFound)) throw gone;
    });
    throw error;
  }
  return counter.bytes;
}

function dataPath(end: CopyEnd, user: string | undefined): string {
  const query = new URLSearchParams({ path: end.path, ...(user === undefined ? {} : { user }) });
  return `/v1/sandboxes/${end.sandboxId}/files?${query}`;
}

async function openLocal(path: string): Promise<Deno.FsFile> {
  try {
    if (!(await Deno.stat(path)).isDirectory) return await Deno.open(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new TorporError("file_not_found", `no such file: ${path}`, { cause: error });
  }
  throw new TorporError("invalid_argument", `${path} is a directory`, { hint: "copy a tar file of it" });
}

async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isDirectory;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

class ByteCounter extends TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>> {
  bytes = 0;

  constructor(onBytes: OnBytes) {
    super({
      transform: (chunk, controller) => {
        this.bytes += chunk.length;
        onBytes(this.bytes);
        controller.enqueue(chunk);
      },
    });
  }
}
