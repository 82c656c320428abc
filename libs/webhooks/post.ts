import http from "node:http";
import https from "node:https";
import { DeliveryError, type DeliveryErrorCode } from "./delivery_error.ts";

/** As much as is kept of an answer's body, bytes. */
const MAX_BODY_BYTES = 1024;

/** What a receiver has answered. */
export interface ReceiverAnswer {
  status: number;
  /** How the body begins, at most 1 KiB. */
  body: string;
  /** What Retry-After asks for, ms; 0: nothing. */
  retryAfterMs: number;
}

/** One request. */
export interface Post {
  url: URL;
  /** Where to connect to; the URL's name is only told to the receiver, and its certificate is checked against it. */
  address: string;
  headers: Record<string, string>;
  body: string;
  /** Certificates in PEM of authorities that are trusted instead of the system's. */
  caCertificates?: string[];
}

/**
 * Posts a body over a connection of its own, to exactly one address. Redirects are answers like others; of a body as much
 * is read as is kept.
 * @throws DeliveryError `connection_failed`, `tls_failed`; `timed_out` when `signal` is aborted.
 */
export async function post({ url, address, headers, body, caCertificates }: Post, signal: AbortSignal) {
  const secure = url.protocol === "https:";
  const name = url.hostname.replace(/^\[(.*)\]$/, "$1");
  const options: https.RequestOptions = {
    host: address,
    port: url.port === "" ? (secure ? 443 : 80) : Number(url.port),
    path: url.pathname + url.search,
    method: "POST",
    headers: { ...headers, host: url.host, "content-length": new TextEncoder().encode(body).length },
    // No pool: a connection that was checked for one name must not serve another.
    agent: false,
    signal,
    ...(secure ? { servername: name, ca: caCertificates } : {}),
  };
  const { promise, resolve, reject } = Promise.withResolvers<ReceiverAnswer>();
  const request = (secure ? https : http).request(options, (response) => readAnswer(response, resolve, reject));
  request.on("error", reject);
  request.end(body);
  try {
    return await promise;
  } catch (thrown) {
    throw new DeliveryError(signal.aborted ? "timed_out" : codeOf(thrown), thrown);
  } finally {
    request.destroy();
  }
}

function readAnswer(
  response: http.IncomingMessage,
  resolve: (answer: ReceiverAnswer) => void,
  reject: (thrown: unknown) => void,
): void {
  const kept = new Uint8Array(MAX_BODY_BYTES);
  let length = 0;
  const answered = () => {
    const body = new TextDecoder().decode(kept.subarray(0, length)).replaceAll("\0", "");
    resolve({ status: response.statusCode ?? 0, body, retryAfterMs: retryAfterMs(response.headers["retry-after"]) });
  };
  response.on("data", (chunk: Uint8Array) => {
    const taken = chunk.subarray(0, MAX_BODY_BYTES - length);
    kept.set(taken, length);
    length += taken.length;
    if (length === MAX_BODY_BYTES) answered();
  });
  response.on("end", answered);
  response.on("error", reject);
  // An answer that breaks off has no end.
  response.on("close", () => reject(new Error("the answer broke off")));
}

function retryAfterMs(text: string | undefined): number {
  if (text === undefined) return 0;
  const ms = /^[0-9]{1,9}$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isFinite(ms) && ms > 0 ? ms : 0;
}

/** Codes of OpenSSL's verification, and of the check of the certificate's names. */
const TLS_CODE = /^(ERR_TLS_|ERR_SSL_|CERT_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|HOSTNAME_MISMATCH|INVALID_CA)/;

function codeOf(thrown: unknown): DeliveryErrorCode {
  const code = thrown instanceof Error && "code" in thrown ? String(thrown.code) : "";
  return TLS_CODE.test(code) ? "tls_failed" : "connection_failed";
}
