import type { DescService } from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { codeOf } from "../keys/admission.ts";
import type { Caller } from "../keys/caller.ts";
import { admittedOf } from "./gate.ts";

// deno-lint-ignore no-explicit-any
type AnyMethod = (request: any, context: HandlerContext) => unknown;

/** Fields of requests that name what a call is about, the more specific first. */
const TARGET_FIELDS = ["sandboxId", "snapshot", "webhookId", "keyId", "teamId", "hostId"];

/** The methods of a service, which tell the audit log how each call has ended. A stream ends with its last message. */
export function audited<Service extends DescService>(methods: ServiceImpl<Service>): ServiceImpl<Service> {
  const entries = Object.entries(methods as Record<string, AnyMethod>);
  return Object.fromEntries(entries.map(([name, method]) => [name, audit(method)])) as ServiceImpl<Service>;
}

function audit(method: AnyMethod): AnyMethod {
  return (request, context) => {
    const { caller, end } = admittedOf(context);
    noteTarget(caller, request);
    const result = run(() => method(request, context), end);
    return isStream(result) ? streamed(result, end) : settled(result as Promise<unknown>, end);
  };
}

function run(work: () => unknown, end: (code: string) => void): unknown {
  try {
    return work();
  } catch (thrown) {
    end(codeOf(thrown));
    throw thrown;
  }
}

async function settled(result: Promise<unknown>, end: (code: string) => void): Promise<unknown> {
  try {
    const value = await result;
    end("ok");
    return value;
  } catch (thrown) {
    end(codeOf(thrown));
    throw thrown;
  }
}

async function* streamed(messages: AsyncIterable<unknown>, end: (code: string) => void): AsyncIterable<unknown> {
  // A client that leaves ends the stream here without a throw.
  let code = "canceled";
  try {
    yield* messages;
    code = "ok";
  } catch (thrown) {
    code = codeOf(thrown);
    throw thrown;
  } finally {
    end(code);
  }
}

function noteTarget({ call }: Caller, request: Record<string, unknown>): void {
  const named = TARGET_FIELDS.map((field) => request[field]).find((value) => typeof value === "string" && value !== "");
  if (typeof named === "string") call.target = named;
}

function isStream(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === "object" && value !== null && Symbol.asyncIterator in value;
}
