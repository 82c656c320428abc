import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { TorporError } from "@torpor/errors";
import { requireId } from "@torpor/ids";
import type { SandboxService, WriteFileStreamMeta, WriteFileStreamRequest } from "@torpor/proto/torpor";
import type { Api } from "../handlers/api.ts";
import { listDirectory, makeDirectory, removeFile, statFile } from "../handlers/directories.ts";
import { readFile, writeFile } from "../handlers/file_content.ts";
import { getMemoryStats } from "../handlers/memory.ts";
import {
  fileInput,
  listDirectoryInput,
  MAX_UNARY_FILE_BYTES,
  removeFileInput,
  writeFileInput,
} from "../inputs/file.ts";
import { parseInput } from "../inputs/parse.ts";
import { readAll } from "../read_all.ts";
import { callerOf } from "./gate.ts";
import { fileMessage } from "./messages.ts";

/** The methods about files. */
export function fileMethods(api: Api) {
  return {
    async readFile(request, context) {
      const content = await openFile(api, request, context);
      return { content: await readAll(content.body, MAX_UNARY_FILE_BYTES, fileTooLarge) };
    },

    async *readFileStream(request, context) {
      for await (const chunk of (await openFile(api, request, context)).body) yield { chunk };
    },

    async writeFile(request, context) {
      if (request.content.length > MAX_UNARY_FILE_BYTES) throw fileTooLarge();
      await storeFile(api, request, request.content as Uint8Array<ArrayBuffer>, context);
      return {};
    },

    async writeFileStream(requests, context) {
      const messages = requests[Symbol.asyncIterator]();
      const first = await messages.next();
      if (first.done || first.value.content.case !== "meta") {
        throw new TorporError("invalid_argument", "the first message must be meta", { field: "meta" });
      }
      const chunks = chunksOf(messages);
      try {
        await storeFile(api, first.value.content.value, chunks.body, context);
      } catch (thrown) {
        // The transfer reports that its body broke off; why it did is known here.
        throw chunks.failure() ?? thrown;
      }
      return {};
    },

    async statFile(request, context) {
      const input = parseInput(fileInput, { path: request.path, user: request.user });
      const sandboxId = requireId(request.sandboxId, "sandbox_id");
      return { file: fileMessage(await statFile(api, callerOf(context), sandboxId, input)) };
    },

    async listDirectory(request, context) {
      const { path, user, depth } = request;
      const input = parseInput(listDirectoryInput, { path, user, depth: depth || undefined });
      const files = await listDirectory(api, callerOf(context), requireId(request.sandboxId, "sandbox_id"), input);
      return { files: files.map(fileMessage) };
    },

    async makeDirectory(request, context) {
      const input = parseInput(fileInput, { path: request.path, user: request.user });
      await makeDirectory(api, callerOf(context), requireId(request.sandboxId, "sandbox_id"), input);
      return {};
    },

    async removeFile(request, context) {
      const { path, user, recursive } = request;
      const input = parseInput(removeFileInput, { path, user, recursive });
      await removeFile(api, callerOf(context), requireId(request.sandboxId, "sandbox_id"), input);
      return {};
    },

    async getMemoryStats(request, context) {
      const stats = await getMemoryStats(api, callerOf(context), requireId(request.sandboxId, "sandbox_id"));
      const { $typeName: _name, $unknown: _unknown, ...fields } = stats;
      return fields;
    },
  } satisfies Partial<ServiceImpl<typeof SandboxService>>;
}

interface FileRequest {
  sandboxId: string;
  path: string;
  user: string;
}

async function openFile(api: Api, request: FileRequest, context: HandlerContext) {
  const input = parseInput(fileInput, { path: request.path, user: request.user });
  return await readFile(api, callerOf(context), requireId(request.sandboxId, "sandbox_id"), input, context.signal);
}

async function storeFile(
  api: Api,
  request: FileRequest & Pick<WriteFileStreamMeta, "mode">,
  content: Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array>,
  context: HandlerContext,
): Promise<void> {
  const input = parseInput(writeFileInput, { path: request.path, user: request.user, mode: request.mode });
  const sandboxId = requireId(request.sandboxId, "sandbox_id");
  await writeFile(api, callerOf(context), sandboxId, input, content, context.signal);
}

/** The chunks of an upload as a body, pulled as the host takes them, and why the body failed if it did. */
function chunksOf(messages: AsyncIterator<WriteFileStreamRequest>) {
  let failure: TorporError | undefined;
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      for (;;) {
        const next = await messages.next();
        if (next.done) return controller.close();
        const { content } = next.value;
        if (content.case !== "chunk") {
          failure = new TorporError("invalid_argument", "only the first message may be meta", { field: "meta" });
          throw failure;
        }
        // An empty chunk would not satisfy the pull.
        if (content.value.length > 0) return controller.enqueue(content.value);
      }
    },
    async cancel() {
      await messages.return?.();
    },
  }, { highWaterMark: 0 });
  return { body, failure: () => failure };
}

function fileTooLarge(): TorporError {
  return new TorporError("payload_too_large", `the file has more than ${MAX_UNARY_FILE_BYTES} bytes`, {
    hint: "use ReadFileStream and WriteFileStream, or GET and PUT /v1/sandboxes/{sandbox_id}/files",
  });
}
