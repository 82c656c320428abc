import { type Client, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { TorporError } from "@torpor/errors";
import { OperationService, SandboxService, SnapshotService } from "@torpor/proto/torpor";
import { withAbortableBody } from "@torpor/rpc/abortable_body";
import { withTorporErrors } from "@torpor/rpc/call_error";
import { environmentVariable } from "./environment.ts";
import { restAnswer } from "./rest_error.ts";

/** Where the API is and who calls. */
export interface ConnectionOptions {
  /** Of the API, as `http://127.0.0.1:7100`. Default: `TORPOR_URL`. */
  url?: string;
  /** Default: `TORPOR_API_KEY`. */
  apiKey?: string;
  /** Longest wait for the answer of a call that is no stream, milliseconds. Default 600,000: a create may build up a VM. */
  timeoutMs?: number;
  /** Sends the requests. Default: the platform's. */
  fetch?: typeof fetch;
}

/** The clients of the API: the generated ConnectRPC ones, and REST for what streams. Errors are TorporErrors. */
export class Connection {
  readonly url: string;
  readonly sandboxes: Client<typeof SandboxService>;
  readonly snapshots: Client<typeof SnapshotService>;
  readonly operations: Client<typeof OperationService>;
  readonly #apiKey: string;
  readonly #fetch: typeof fetch;

  /** @throws TorporError `config_invalid` without a URL or a key. */
  constructor(options: ConnectionOptions = {}) {
    this.url = required("url", options.url, "TORPOR_URL").replace(/\/+$/, "");
    this.#apiKey = required("apiKey", options.apiKey, "TORPOR_API_KEY");
    const send = options.fetch ?? ((input, init) => fetch(input, init));
    this.#fetch = async (input, init) => withAbortableBody(await send(input, init), init?.signal ?? undefined);
    const transport = createConnectTransport({
      baseUrl: this.url,
      fetch: this.#fetch,
      useBinaryFormat: true,
      interceptors: [withKey(this.#apiKey, options.timeoutMs ?? 600_000)],
    });
    this.sandboxes = withTorporErrors(SandboxService, createClient(SandboxService, transport));
    this.snapshots = withTorporErrors(SnapshotService, createClient(SnapshotService, transport));
    this.operations = withTorporErrors(OperationService, createClient(OperationService, transport));
  }

  /** A request to a REST path. @throws TorporError the code of an error answer; `unavailable` when the API is not reached. */
  async rest(path: string, init: RequestInit = {}): Promise<Response> {
    const headers = new Headers(init.headers);
    headers.set("authorization", `Bearer ${this.#apiKey}`);
    return await restAnswer(this.#fetch(`${this.url}${path}`, { ...init, headers }));
  }
}

function required(option: string, given: string | undefined, variable: string): string {
  const value = given ?? environmentVariable(variable);
  if (value) return value;
  throw new TorporError("config_invalid", `no ${option} is given`, {
    field: option,
    hint: `pass it or set ${variable}`,
  });
}

function withKey(apiKey: string, timeoutMs: number): Interceptor {
  return (next) => async (request) => {
    request.header.set("authorization", `Bearer ${apiKey}`);
    if (request.stream) return await next(request);
    const signal = AbortSignal.any([request.signal, AbortSignal.timeout(timeoutMs)]);
    return await next({ ...request, signal });
  };
}
