/** TLS alerts (RFC 8446, 6.2). */
const ACCESS_DENIED = 49;
const DECODE_ERROR = 50;
const INTERNAL_ERROR = 80;
const UNRECOGNIZED_NAME = 112;

interface RefusalAnswer {
  /** Status of the HTTP answer. */
  status: number;
  /** Number of the TLS alert. */
  alert: number;
  /** For people. */
  text: string;
}

/** Why a connection ended other than by its own two ends; the reasons are stable, logs and metrics carry them. */
export const REFUSALS = {
  not_allowed: { status: 403, alert: ACCESS_DENIED, text: "the sandbox's network rules do not allow this name" },
  reserved_address: {
    status: 403,
    alert: ACCESS_DENIED,
    text: "the name resolves to an address that no sandbox may reach",
  },
  no_name: { status: 403, alert: UNRECOGNIZED_NAME, text: "the client does not say which name it wants" },
  bad_name: { status: 403, alert: UNRECOGNIZED_NAME, text: "what the client asks for is no domain name" },
  encrypted_hello: { status: 403, alert: ACCESS_DENIED, text: "encrypted ClientHello: the name cannot be checked" },
  malformed: { status: 400, alert: DECODE_ERROR, text: "malformed, or with more than one meaning" },
  head_too_large: { status: 431, alert: DECODE_ERROR, text: "the request's head is too large" },
  head_timeout: { status: 408, alert: INTERNAL_ERROR, text: "the client did not say in time what it wants" },
  pipelined: { status: 400, alert: DECODE_ERROR, text: "more than one request on a connection" },
  not_resolved: { status: 502, alert: INTERNAL_ERROR, text: "the name has no address" },
  not_connected: { status: 502, alert: INTERNAL_ERROR, text: "no address of the name answers" },
  slot_limit: { status: 429, alert: INTERNAL_ERROR, text: "too many connections of this sandbox" },
  host_limit: { status: 503, alert: INTERNAL_ERROR, text: "too many connections of all sandboxes" },
  abandoned: { status: 400, alert: DECODE_ERROR, text: "the client left before it said what it wants" },
  internal: { status: 502, alert: INTERNAL_ERROR, text: "an unexpected error occurred" },
  idle: { status: 408, alert: INTERNAL_ERROR, text: "idle for too long" },
  rules_changed: { status: 403, alert: ACCESS_DENIED, text: "the sandbox's network rules have changed" },
  unknown_source: { status: 403, alert: ACCESS_DENIED, text: "not from a sandbox" },
} as const satisfies Record<string, RefusalAnswer>;

/** One of the keys of {@linkcode REFUSALS}. */
export type RefusalReason = keyof typeof REFUSALS;

/** Thrown where a connection is to be refused; whoever serves it answers in its protocol. */
export class Refusal extends Error {
  override readonly name = "Refusal";

  /** @param reason stable; @param detail for the log: what about it, without anything that the client chose freely. */
  constructor(readonly reason: RefusalReason, readonly detail?: string, options?: ErrorOptions) {
    super(detail ? `${REFUSALS[reason].text}: ${detail}` : REFUSALS[reason].text, options);
  }
}

/** The HTTP/1.1 answer to a refused request. */
export function refusalResponse(reason: RefusalReason): Uint8Array<ArrayBuffer> {
  const { status, text } = REFUSALS[reason];
  const body = `torpor: egress refused: ${reason}: ${text}\n`;
  return new TextEncoder().encode(
    `HTTP/1.1 ${status} ${STATUS_TEXT[status]}\r\ncontent-type: text/plain\r\ncontent-length: ${body.length}\r\n` +
      `torpor-egress-refused: ${reason}\r\nconnection: close\r\n\r\n${body}`,
  );
}

/** A TLS record with a fatal alert. */
export function refusalAlert(reason: RefusalReason): Uint8Array<ArrayBuffer> {
  return Uint8Array.of(0x15, 3, 3, 0, 2, 2, REFUSALS[reason].alert);
}

const STATUS_TEXT: Record<typeof REFUSALS[RefusalReason]["status"], string> = {
  400: "Bad Request",
  403: "Forbidden",
  408: "Request Timeout",
  429: "Too Many Requests",
  431: "Request Header Fields Too Large",
  502: "Bad Gateway",
  503: "Service Unavailable",
};
