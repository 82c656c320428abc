import type { FileEntry } from "@torpor/proto/guest";
import { TorporError } from "@torpor/errors";
import { protocolError, unreachableError } from "./protocol_error.ts";
import type { GuestStream } from "./stream.ts";

/** A file that is open for reading. */
export interface OpenedFile {
  /** The file as it was opened; its size may change under a writer. */
  entry: FileEntry;
  /** Its bytes. Holds at most the stream's credit; an error ends it abruptly. Cancel it to stop the guest. */
  body: ReadableStream<Uint8Array>;
}

/** Waits for the guest to open the file. @throws TorporError the guest's status. */
export async function openFileStream(stream: GuestStream): Promise<OpenedFile> {
  return { entry: await readEntry(stream), body: fileBody(stream) };
}

function fileBody(stream: GuestStream): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        for (;;) {
          const event = await stream.next();
          if (event?.kind === "data") return controller.enqueue(event.data);
          if (!event) return controller.close();
          // An empty chunk that carries only the end mark.
        }
      } catch (error) {
        controller.error(error);
      }
    },
    cancel: () => stream.cancel(),
  }, { highWaterMark: 0 });
}

/**
 * Sends content and waits until the file is in place. When `content` fails, or the guest ends early (disk full), the
 * guest drops the half-written file, and the rest of `content` is cancelled.
 * @throws TorporError the guest's status; whatever `content` fails with.
 */
export async function sendFile(stream: GuestStream, content: ReadableStream<Uint8Array>): Promise<FileEntry> {
  const reader = content.getReader();
  const sending = sendContent(stream, reader);
  try {
    const entry = await readEntry(stream);
    await stream.next(); // The end: an entry alone is no success.
    return entry;
  } catch (error) {
    throw error instanceof TorporError && error.cause instanceof ContentError ? error.cause.cause : error;
  } finally {
    await reader.cancel();
    await sending;
  }
}

/** The caller's content broke, as opposed to the way to the guest. */
class ContentError extends Error {}

/** Never rejects: what goes wrong ends the stream, where the reader of the answer finds it. */
async function sendContent(stream: GuestStream, reader: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
  try {
    for (;;) {
      const { done, value } = await nextPiece(reader);
      await stream.sendData("fileChunk", value ?? new Uint8Array(0), done);
      if (done) return;
    }
  } catch (error) {
    stream.cancel(unreachableError("the content could not be sent", error));
  }
}

async function nextPiece(reader: ReadableStreamDefaultReader<Uint8Array>) {
  try {
    return await reader.read();
  } catch (cause) {
    throw new ContentError("the content broke", { cause });
  }
}

async function readEntry(stream: GuestStream): Promise<FileEntry> {
  const event = await stream.next();
  if (event?.kind === "body" && event.body.case === "fileEntry") return event.body.value;
  throw protocolError("a file without its entry");
}
