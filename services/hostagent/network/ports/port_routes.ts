import { TorporError } from "@torpor/errors";
import { errorResponse, tunnelFrame } from "@torpor/rpc";
import { log } from "@torpor/telemetry";
import type { PortStream } from "../../guest/port_stream.ts";
import type { SandboxAccess } from "../../sandbox/access.ts";

const PORTS_PATH = /^\/sandboxes\/([^/]+)\/ports\/([1-9][0-9]{0,4})$/;

/** The guest connects to itself; only its own backlog can make that slow. */
const CONNECT_TIMEOUT_MS = 10_000;
/** As exact as this is the time of last use of a connection that does not keep its sandbox awake by itself. */
const TOUCH_INTERVAL_MS = 1_000;

/**
 * A connection to a TCP port of a sandbox, as one HTTP exchange whose bodies flow at the same time (a tunnel, see
 * `Tunnel` of libs/rpc):
 *
 *     POST /sandboxes/{id}/ports/{port}?finite=1     the body goes to the port, the answer's frames come from it
 *
 * The answer begins when the guest is connected, so a caller that sends nothing before may try again. Each direction ends by
 * itself, and what breaks off on one side breaks off on the other. `finite=1`: there is a request under way until the end, so that the sandbox counts as used for
 * as long and a pause waits for it; otherwise it counts as used whenever bytes flow, and a pause cuts it.
 * @returns undefined for other paths. Errors have the usual JSON body: `port_closed`, `conflict`, `rate_limited` …
 */
export function portRoutes(access: SandboxAccess): (request: Request) => Promise<Response | undefined> {
  return async (request) => {
    const url = new URL(request.url);
    const [, sandboxId, port] = PORTS_PATH.exec(url.pathname) ?? [];
    if (sandboxId === undefined) return undefined;
    try {
      if (request.method !== "POST") {
        throw new TorporError("method_not_allowed", `${request.method} is not allowed here`);
      }
      const finite = url.searchParams.get("finite") === "1";
      return await openPort(access, sandboxId, requirePort(Number(port)), finite, request);
    } catch (thrown) {
      await request.body?.cancel();
      if (!(thrown instanceof TorporError) || thrown.code === "internal") log("error", "port_route_failed", {}, thrown);
      return errorResponse(thrown);
    }
  };
}

function requirePort(port: number): number {
  if (port <= 65_535) return port;
  throw new TorporError("invalid_argument", "port must be 1 to 65535", { field: "port" });
}

async function openPort(
  access: SandboxAccess,
  sandboxId: string,
  port: number,
  finite: boolean,
  request: Request,
): Promise<Response> {
  using cleanup = new DisposableStack();
  const entry = cleanup.use(access.ports(sandboxId).add({ finite }));
  const opened = Promise.withResolvers<PortStream>();
  const over = Promise.withResolvers<void>();
  const using = access.use(sandboxId, async (channel) => {
    opened.resolve(await connect(channel, port, entry.signal));
    if (finite) await over.promise;
  });
  using.catch(opened.reject);
  const stream = await opened.promise;
  const held = cleanup.move();
  // Without a body there is nothing to send: the way to the port is ended at once.
  const body = (request.body ?? new Blob([]).stream()).getReader();
  const end = () => {
    over.resolve();
    held.dispose();
    // Nobody takes the rest; a body that has ended or failed by itself has none.
    body.cancel().catch(() => {});
  };
  const touch = finite ? () => {} : touching(access, sandboxId);
  void send(stream, body, touch);
  return new Response(receive(stream, touch, end), {
    headers: { "content-type": "application/octet-stream" },
  });
}

type Channel = Parameters<Parameters<SandboxAccess["use"]>[1]>[0];

/** @param signal resets the connection at any time, the timeout only before it is open. */
async function connect(channel: Channel, port: number, signal: AbortSignal): Promise<PortStream> {
  const late = new AbortController();
  const timer = setTimeout(
    () => late.abort(new TorporError("deadline_exceeded", `port ${port} did not accept a connection in time`)),
    CONNECT_TIMEOUT_MS,
  );
  try {
    return await channel.connectPort(port, { signal: AbortSignal.any([signal, late.signal]) });
  } finally {
    clearTimeout(timer);
  }
}

/** The way to the port. Never rejects: a client that breaks off resets the connection, where the reader finds it. */
async function send(
  stream: PortStream,
  body: ReadableStreamDefaultReader<Uint8Array>,
  touch: () => void,
): Promise<void> {
  try {
    for (let next = await body.read(); !next.done; next = await body.read()) {
      touch();
      await stream.write(next.value);
    }
    await stream.end();
  } catch (_error) {
    // The client has gone, or the port: either way the connection is over.
    stream.cancel();
  }
}

/** The way from the port, as frames. It ends when both directions have, or without its last frame when the port breaks. */
function receive(stream: PortStream, touch: () => void, end: () => void): ReadableStream<Uint8Array> {
  let ended = false;
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        if (!ended) {
          const data = await stream.read();
          touch();
          ended = data === undefined;
          return controller.enqueue(tunnelFrame(data));
        }
        await stream.ended();
      } catch (_error) {
        // The missing last frame tells the client; why it broke is known where it broke.
      }
      controller.close();
      end();
    },
    cancel() {
      stream.cancel();
      end();
    },
  }, { highWaterMark: 0 });
}

/** Notes, at most once in a while, that the sandbox is used. */
function touching(access: SandboxAccess, sandboxId: string): () => void {
  let touchedMs = -Infinity;
  return () => {
    const now = performance.now();
    if (now - touchedMs < TOUCH_INTERVAL_MS) return;
    touchedMs = now;
    // A sandbox that is being paused meanwhile needs no note.
    access.use(sandboxId, () => Promise.resolve()).catch(() => {});
  };
}
