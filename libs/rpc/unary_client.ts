import { createFetchClient, type UniversalClientFn, type UniversalClientRequest } from "@connectrpc/connect/protocol";
import { withAbortableBody } from "./abortable_body.ts";
import type { AddressFetch } from "./http_client.ts";
import { MAX_WHOLE_BYTES } from "./limits.ts";

/** Of a unary call with binary messages; those of streams are `application/connect+…`. */
const UNARY_TYPE = "application/proto";

/**
 * How the ConnectRPC library sends its requests. A unary call's message is one block of bytes both ways; making streams of
 * them, as the library's own client does, takes three times as long as the rest of the call.
 */
export function createCallClient(http: AddressFetch): UniversalClientFn {
  const streaming = createFetchClient(http.fetch);
  return (request) => request.header.get("content-type") === UNARY_TYPE ? callUnary(http, request) : streaming(request);
}

async function callUnary(http: AddressFetch, request: UniversalClientRequest): ReturnType<UniversalClientFn> {
  const { url, method, header: headers, signal } = request;
  const body = await onlyChunk(request.body);
  const response = await http.fetchUnguarded(url, { method, headers, body, signal });
  const { status, headers: header } = response;
  const length = Number(header.get("content-length") ?? NaN);
  const whole = length <= MAX_WHOLE_BYTES;
  const answer = whole ? chunk(await readWhole(response, signal)) : withAbortableBody(response, signal).body!.values();
  return { status, header, body: answer, trailer: new Headers() };
}

async function onlyChunk(chunks: UniversalClientRequest["body"]): Promise<Uint8Array<ArrayBuffer>> {
  const all: Uint8Array[] = [];
  for await (const one of chunks ?? []) all.push(one);
  return (all.length === 1 ? all[0]! : new Uint8Array(await new Blob(all as BlobPart[]).arrayBuffer())) as Uint8Array<
    ArrayBuffer
  >;
}

async function* chunk(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  if (bytes.length > 0) yield bytes;
}

/** Ends with the signal, whatever becomes of the body: see {@linkcode withAbortableBody}. */
async function readWhole(response: Response, signal: AbortSignal | undefined): Promise<Uint8Array> {
  if (!signal) return await response.bytes();
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => aborted.reject(signal.reason);
  signal.addEventListener("abort", onAbort);
  try {
    return await Promise.race([response.bytes(), aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
