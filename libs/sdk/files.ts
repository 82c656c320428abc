import { TorporError } from "@torpor/errors";
import type { FileInfo } from "@torpor/proto/torpor";
import type { Connection } from "./connection.ts";

/** Whose home relative paths start in, and who owns what is made. Default: `user`. */
export interface FileOptions {
  user?: string;
}

/** Options of {@linkcode Files.write}. */
export interface WriteOptions extends FileOptions {
  /** Permission bits. Default: an existing file's, else 0o644. */
  mode?: number;
}

/** What a file may be written from. A stream without a known length is buffered by the server: prefer a Blob. */
export type Content = string | Uint8Array | Blob | ReadableStream<Uint8Array>;

/** The files of a sandbox. Paths are absolute, or relative to the user's home. */
export class Files {
  readonly #connection: Connection;
  readonly #sandboxId: string;

  constructor(connection: Connection, sandboxId: string) {
    this.#connection = connection;
    this.#sandboxId = sandboxId;
  }

  /** Replaces or makes a file, and the folders above it. Any size. @throws TorporError `no_space`, `file_precondition`. */
  async write(path: string, content: Content, options: WriteOptions = {}): Promise<void> {
    const { mode } = options;
    const query: Record<string, string> = mode === undefined ? {} : { mode: mode.toString(8).padStart(3, "0") };
    // `duplex` is what fetch demands of a streamed body.
    const init = {
      method: "PUT",
      body: content as BodyInit,
      ...(content instanceof ReadableStream && { duplex: "half" }),
    };
    const headers = { "content-type": "application/octet-stream" };
    const response = await this.#connection.rest(this.#contentPath(path, options, query), { ...init, headers });
    await response.body?.cancel();
  }

  /** A whole file. @throws TorporError `file_not_found`, `file_precondition` (a folder). */
  async read(path: string, options: FileOptions = {}): Promise<Uint8Array> {
    const response = await this.#connection.rest(this.#contentPath(path, options));
    return new Uint8Array(await response.arrayBuffer());
  }

  /** A whole file as UTF-8 text. */
  async readText(path: string, options: FileOptions = {}): Promise<string> {
    return new TextDecoder().decode(await this.read(path, options));
  }

  /** A file as it comes, of any size. */
  async readStream(path: string, options: FileOptions = {}): Promise<ReadableStream<Uint8Array>> {
    const response = await this.#connection.rest(this.#contentPath(path, options));
    return response.body ?? new Blob().stream();
  }

  /** Facts about a file, folder or link. */
  async stat(path: string, options: FileOptions = {}): Promise<FileInfo> {
    const { file } = await this.#connection.sandboxes.statFile({ sandboxId: this.#sandboxId, path, ...options });
    return file!;
  }

  /** True when there is something at `path`. */
  async exists(path: string, options: FileOptions = {}): Promise<boolean> {
    try {
      await this.stat(path, options);
      return true;
    } catch (thrown) {
      if (thrown instanceof TorporError && thrown.code === "file_not_found") return false;
      throw thrown;
    }
  }

  /** What is in a folder, and in those inside of it down to `depth` (1 to 32, default 1). */
  async list(path: string, options: FileOptions & { depth?: number } = {}): Promise<FileInfo[]> {
    return (await this.#connection.sandboxes.listDirectory({ sandboxId: this.#sandboxId, path, ...options })).files;
  }

  /** Makes a folder and those above it. One that exists is fine. */
  async makeDirectory(path: string, options: FileOptions = {}): Promise<void> {
    await this.#connection.sandboxes.makeDirectory({ sandboxId: this.#sandboxId, path, ...options });
  }

  /** Removes a file or, with `recursive`, a folder and what is in it. */
  async remove(path: string, options: FileOptions & { recursive?: boolean } = {}): Promise<void> {
    await this.#connection.sandboxes.removeFile({ sandboxId: this.#sandboxId, path, ...options });
  }

  #contentPath(path: string, { user }: FileOptions, more: Record<string, string> = {}): string {
    const query = new URLSearchParams({ path, ...(user && { user }), ...more });
    return `/v1/sandboxes/${encodeURIComponent(this.#sandboxId)}/files?${query}`;
  }
}
