import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import { TorporError } from "@torpor/errors";
import {
  type HostAgentService,
  ReadFileStreamResponseSchema,
  type WriteFileStreamMeta,
  type WriteFileStreamRequest,
} from "@torpor/proto/hostagent";
import { requireMode, requirePath, requireUser } from "../guest/arguments.ts";
import { ByteCollector } from "../guest/byte_collector.ts";
import { holdChannel } from "../guest/held_channel.ts";
import type { OpenedFile } from "../guest/mod.ts";
import type { SandboxAccess } from "../sandbox/access.ts";
import { fileInfo } from "./file_info.ts";

/** Largest file of the unary ReadFile and WriteFile. */
export const MAX_UNARY_FILE_BYTES = 16 * 1024 * 1024;
const MAX_DEPTH = 64;

type FileMethods =
  | "readFile"
  | "writeFile"
  | "readFileStream"
  | "writeFileStream"
  | "statFile"
  | "listDirectory"
  | "makeDirectory"
  | "removeFile";

/** The RPCs about files. */
export function fileHandlers(access: SandboxAccess): Pick<ServiceImpl<typeof HostAgentService>, FileMethods> {
  return {
    async readFile(request, { signal }) {
      const target = fileTarget(request);
      return await access.use(request.sandboxId, async (channel) => {
        const opened = await channel.readFile(target.path, { user: target.user, signal });
        return { content: await readWhole(opened, MAX_UNARY_FILE_BYTES) };
      });
    },

    async writeFile(request, { signal }) {
      const { path, user } = fileTarget(request);
      const { content } = request;
      if (content.length > MAX_UNARY_FILE_BYTES) throw tooLarge("content");
      await access.use(request.sandboxId, (channel) => channel.writeFile(path, content, { user, signal }));
      return {};
    },

    async *readFileStream(request, { signal }) {
      const { path, user } = fileTarget(request);
      await using held = await holdChannel(access, request.sandboxId);
      const { body } = await held.channel.readFile(path, { user, signal });
      for await (const chunk of body) yield create(ReadFileStreamResponseSchema, { chunk });
    },

    async writeFileStream(requests, { signal }) {
      const messages = requests[Symbol.asyncIterator]();
      const meta = await readMeta(messages);
      const { path, user } = fileTarget(meta);
      const mode = requireMode(meta.mode);
      const content = ReadableStream.from(chunks(messages));
      await access.use(meta.sandboxId, (channel) => channel.writeFile(path, content, { user, mode, signal }));
      return {};
    },

    async statFile(request, { signal }) {
      const { path, user } = fileTarget(request);
      const entry = await access.use(request.sandboxId, (channel) => channel.stat(path, { user, signal }));
      return { file: fileInfo(entry) };
    },

    async listDirectory(request, { signal }) {
      const { path, user } = fileTarget(request);
      const depth = request.depth || 1;
      if (depth > MAX_DEPTH) {
        throw new TorporError("invalid_argument", `depth is more than ${MAX_DEPTH}`, { field: "depth" });
      }
      const entries = await access.use(
        request.sandboxId,
        (channel) => channel.listDirectory(path, { user, depth, signal }),
      );
      return { files: entries.map(fileInfo) };
    },

    async makeDirectory(request, { signal }) {
      const { path, user } = fileTarget(request);
      await access.use(request.sandboxId, (channel) => channel.makeDirectory(path, { user, signal }));
      return {};
    },

    async removeFile(request, { signal }) {
      const { path, user } = fileTarget(request);
      const { recursive } = request;
      await access.use(request.sandboxId, (channel) => channel.removeFile(path, { user, recursive, signal }));
      return {};
    },
  };
}

function fileTarget(request: { path: string; user: string }): { path: string; user: string } {
  return { path: requirePath(request.path), user: requireUser(request.user) };
}

async function readWhole({ entry, body }: OpenedFile, limitBytes: number): Promise<Uint8Array<ArrayBuffer>> {
  const collector = new ByteCollector(limitBytes);
  if (entry.sizeBytes > BigInt(limitBytes)) {
    await body.cancel();
    throw tooLarge("the file");
  }
  for await (const piece of body) {
    if (!collector.add(piece)) throw tooLarge("the file");
  }
  return collector.join();
}

async function readMeta(messages: AsyncIterator<WriteFileStreamRequest>): Promise<WriteFileStreamMeta> {
  const first = await messages.next();
  if (!first.done && first.value.content.case === "meta") return first.value.content.value;
  throw new TorporError("invalid_argument", "the first message must carry meta", { field: "meta" });
}

async function* chunks(messages: AsyncIterator<WriteFileStreamRequest>): AsyncGenerator<Uint8Array> {
  for (let next = await messages.next(); !next.done; next = await messages.next()) {
    const { content } = next.value;
    if (content.case === "chunk") yield content.value;
    else throw new TorporError("invalid_argument", "messages after the first must carry a chunk", { field: "chunk" });
  }
}

function tooLarge(what: string): TorporError {
  return new TorporError("payload_too_large", `${what} has more than ${MAX_UNARY_FILE_BYTES} bytes`, {
    hint: "use the streaming call or the file's HTTP route",
  });
}
