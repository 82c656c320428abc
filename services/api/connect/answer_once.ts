import { create, type DescMethod, type DescService, fromJsonString, toBinary, toJsonString } from "@bufbuild/protobuf";
import type { Message, MessageInitShape } from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type { Database, KeptAnswer } from "@torpor/db";
import { asTorporError, type ErrorCode, TorporError, type TorporErrorOptions } from "@torpor/errors";
import { requestHash } from "@torpor/lifecycle";
import { firstAnswer, keepFirstAnswer } from "../idempotency/first_answer.ts";
import { parseInput } from "../inputs/parse.ts";
import { idempotencyHeader } from "../inputs/sandbox.ts";
import { accessOf } from "../keys/access.ts";
import { callerOf, callName } from "./gate.ts";

/** Their answers are secrets, which must not be kept. */
const KEEPS_NO_ANSWER = [
  "ApiKeyService/CreateApiKey",
  "WebhookService/CreateWebhook",
  "WebhookService/RotateWebhookSecret",
];

/** Media types of kept answers: the message as JSON, and an error's parts. */
const [MESSAGE, ERROR] = ["application/json", "application/x-error+json"];

// deno-lint-ignore no-explicit-any
type AnyMethod = (request: any, context: HandlerContext) => unknown;

/**
 * The methods of a service, which carry a call with the header `Idempotency-Key` out once, as POSTs of REST: repeats get
 * the first answer, whatever it was, for a day. Lifecycle verbs have a field `idempotency_key`, which the header fills.
 * Streams, and calls that only read or whose answer is a secret, ignore it.
 */
export function answeringOnce<Service extends DescService>(
  service: Service,
  methods: ServiceImpl<Service>,
  database: Database,
): ServiceImpl<Service> {
  const all = methods as Record<string, AnyMethod>;
  const wrapped = service.methods.map((method) => {
    const handler = all[method.localName]!;
    return [method.localName, isKept(method) ? once(method, handler, database) : handler] as const;
  });
  return Object.fromEntries(wrapped) as ServiceImpl<Service>;
}

function isKept(method: DescMethod): boolean {
  const call = callName({ service: method.parent, method });
  return method.methodKind === "unary" && accessOf(call).changes && !KEEPS_NO_ANSWER.includes(call);
}

function once(method: DescMethod, handler: AnyMethod, database: Database): AnyMethod {
  const hasField = method.input.fields.some(({ name }) => name === "idempotency_key");
  return async (request, context) => {
    const header = context.requestHeader.get("idempotency-key");
    if (header === null) return await handler(request, context);
    const { "idempotency-key": name } = parseInput(idempotencyHeader, { "idempotency-key": header });
    if (hasField) return await handler({ ...request, idempotencyKey: request.idempotencyKey || name }, context);
    const key = { teamId: callerOf(context).teamId, key: name! };
    const answer = await firstAnswer(database, { ...key, requestHash: await hashOf(method, request) });
    if (answer) {
      context.responseHeader.set("idempotent-replayed", "true");
      return replay(method, answer);
    }
    const { result, kept } = await carryOut(method, () => handler(request, context));
    await keepFirstAnswer(database, key, kept, keptError);
    return result();
  };
}

/** @returns what to answer, be it a rejection, and the same as it is kept. */
async function carryOut(method: DescMethod, work: () => unknown) {
  try {
    const message = create(method.output, await work() as MessageInitShape<typeof method.output>);
    const kept = { status: 200, type: MESSAGE!, body: toJsonString(method.output, message) };
    return { result: () => message, kept };
  } catch (thrown) {
    const rethrow = () => {
      throw thrown;
    };
    return { result: rethrow, kept: keptError(asTorporError(thrown)) };
  }
}

async function hashOf(method: DescMethod, request: Message): Promise<Uint8Array> {
  const bytes = toBinary(method.input, request);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>));
  return await requestHash(method.parent.typeName, method.name, digest.toHex());
}

function keptError({ code, message, field, hint, retryAfterSec, details, httpStatus }: TorporError): KeptAnswer {
  return {
    status: httpStatus,
    type: ERROR!,
    body: JSON.stringify({ code, message, field, hint, retryAfterSec, details }),
  };
}

function replay(method: DescMethod, { type, body }: KeptAnswer): Message {
  if (type !== ERROR) return fromJsonString(method.output, body);
  const { code, message, ...options } = JSON.parse(body) as { code: ErrorCode; message: string } & TorporErrorOptions;
  throw new TorporError(code, message, options);
}
