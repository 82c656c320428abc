import type { DescMethod, DescService } from "@bufbuild/protobuf";
import { type CallOptions, type Client, Code, ConnectError } from "@connectrpc/connect";
import { isErrorCode, TorporError } from "@torpor/errors";
import { type ErrorDetail, ErrorDetailSchema } from "@torpor/proto/torpor";

/** Our stable code for a ConnectError that carries no detail of ours: it came from the library or the transport. */
const CODES_WITHOUT_DETAIL = {
  [Code.Canceled]: "canceled",
  [Code.InvalidArgument]: "invalid_argument",
  [Code.DeadlineExceeded]: "deadline_exceeded",
  [Code.NotFound]: "not_found",
  [Code.AlreadyExists]: "already_exists",
  [Code.PermissionDenied]: "permission_denied",
  [Code.ResourceExhausted]: "payload_too_large",
  [Code.FailedPrecondition]: "conflict",
  [Code.Unimplemented]: "unimplemented",
  [Code.Unavailable]: "unavailable",
  [Code.Unauthenticated]: "unauthenticated",
} as const;

/** The TorporError that a ConnectError stands for; the ConnectError stays as its cause. */
export function fromConnectError(error: ConnectError): TorporError {
  const detail = error.findDetails(ErrorDetailSchema)[0];
  if (detail && isErrorCode(detail.code)) {
    return new TorporError(detail.code, error.rawMessage, {
      cause: error,
      field: detail.field || undefined,
      hint: detail.hint || undefined,
      retryAfterSec: Number(error.metadata.get("retry-after")) || undefined,
      details: detailsOf(detail),
    });
  }
  const code = CODES_WITHOUT_DETAIL[error.code as keyof typeof CODES_WITHOUT_DETAIL] ?? "internal";
  return new TorporError(code, error.rawMessage, { cause: error });
}

function detailsOf({ details }: ErrorDetail): Record<string, number> | undefined {
  const entries = Object.entries(details).map(([name, value]) => [name, Number(value)] as const);
  return entries.length > 0 ? Object.fromEntries(entries) : undefined;
}

/**
 * The error of a failed call. A transport that broke (refused, reset, closed) is `unavailable`: whether the other side
 * carried the call out is unknown.
 */
export function fromCallError(thrown: unknown): TorporError {
  if (thrown instanceof TorporError) return thrown;
  const error = ConnectError.from(thrown);
  if (error.cause instanceof DOMException && error.cause.name === "TimeoutError") {
    return new TorporError("deadline_exceeded", "the service did not answer in time", { cause: thrown });
  }
  // fetch reports a refused or broken connection as a TypeError or as one of Deno's own errors.
  const transport = error.cause instanceof TypeError || isDenoHttpError(error.cause);
  if (error.code === Code.Unknown || transport) {
    return new TorporError("unavailable", "the service could not be reached", { cause: thrown });
  }
  return fromConnectError(error);
}

/** Also true nowhere but in Deno: clients run in other places, too. */
function isDenoHttpError(cause: unknown): boolean {
  return typeof Deno !== "undefined" && cause instanceof Deno.errors.Http;
}

type Method = (request: unknown, options?: CallOptions) => unknown;

/**
 * A ConnectRPC client whose calls throw TorporError, and whose streams end at the server when their reader leaves. The library
 * turns whatever an interceptor throws into a ConnectError, so errors are translated around the client.
 */
export function withTorporErrors<Service extends DescService>(
  service: Service,
  client: Client<Service>,
): Client<Service> {
  const methods = service.methods.map(({ localName, methodKind }) => {
    const method = (client as Record<string, Method>)[localName]!;
    return [localName, isStreamed(methodKind) ? streamed(method) : answered(method)];
  });
  return Object.fromEntries(methods) as Client<Service>;
}

function isStreamed(kind: DescMethod["methodKind"]): boolean {
  return kind === "server_streaming" || kind === "bidi_streaming";
}

function answered(method: Method): Method {
  return (request, options) =>
    (method(request, options) as Promise<unknown>).catch((thrown) => {
      throw fromCallError(thrown);
    });
}

/** The library lets a stream go on whose reader has left the loop; an abort ends it. */
function streamed(method: Method): Method {
  return (request, options) => {
    const left = new AbortController();
    const signal = options?.signal ? AbortSignal.any([options.signal, left.signal]) : left.signal;
    return untilLeft(method(request, { ...options, signal }) as AsyncIterable<unknown>, left);
  };
}

async function* untilLeft<T>(messages: AsyncIterable<T>, left: AbortController): AsyncIterable<T> {
  try {
    yield* messages;
  } catch (thrown) {
    throw fromCallError(thrown);
  } finally {
    left.abort();
  }
}
