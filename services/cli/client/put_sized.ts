import { request } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ReadableStream as NodeReadableStream } from "node:stream/web";
import { TorporError } from "@torpor/errors";

/** An upload of {@linkcode putSized}. */
export interface SizedUpload {
  headers: Record<string, string>;
  body: ReadableStream<Uint8Array>;
  /** Bytes of `body`. */
  length: number;
}

/**
 * PUTs a stream with a Content-Length, which Deno's fetch drops: without one, the server buffers what it cannot pass on
 * at once (docs/decisions/0006-uploads-with-a-length.md).
 * @returns the answer, its body read.
 * @throws TorporError `unavailable` when the connection or `body` fails, with that as its cause.
 */
export async function putSized(url: string, upload: SizedUpload): Promise<Response> {
  const put = request(url, {
    method: "PUT",
    headers: { ...upload.headers, "content-length": String(upload.length) },
  });
  const answer = new Promise<Response>((resolve, reject) => {
    put.on("error", (cause) => reject(new TorporError("unavailable", "the upload broke off", { cause })));
    put.on("response", (message) => {
      const chunks: Uint8Array[] = [];
      message.on("data", (chunk: Uint8Array) => chunks.push(chunk));
      message.on("error", reject);
      message.on("end", () => {
        const body = message.statusCode === 204 ? null : new Blob(chunks as BlobPart[]);
        const type = message.headers["content-type"];
        resolve(new Response(body, { status: message.statusCode, headers: type ? { "content-type": type } : {} }));
      });
    });
  });
  const sent = pipeline(Readable.fromWeb(upload.body as NodeReadableStream<Uint8Array>), put).catch(() => {});
  try {
    // What breaks the sending breaks the answer too. An answer before the end of the body is a refusal: the server takes
    // nothing more, so the sending is ended here.
    return await answer;
  } finally {
    put.destroy();
    await sent;
  }
}
