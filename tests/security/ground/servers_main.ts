// The servers of a namespace: web, name, echo. Its first line of stdin is a ServerSetup, further ones are NameAnswers; it ends
// when stdin does.
import { createSocket } from "node:dgram";
import { Buffer } from "node:buffer";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { Socket } from "node:net";
import { isIpv6 } from "./addresses.ts";
import { answer, readQuestion } from "./dns_answer.ts";
import type { NameAnswers, ServerEvent, ServerSetup, Speech, WebAnswer } from "./server_protocol.ts";
import { TextLineStream } from "../../../services/cli/tool/text_lines.ts";

const names = new Map<string, NameAnswers>();
const chunk = new Uint8Array(65_536).fill(120);

function tell(event: ServerEvent): void {
  console.log(JSON.stringify(event));
}

/** Listeners for both families give IPv4 addresses as ::ffff:a.b.c.d. */
function plain({ hostname, port }: Deno.NetAddr): string {
  const address = hostname.replace(/^::ffff:/, "");
  return isIpv6(address) ? `[${address}]:${port}` : `${address}:${port}`;
}

function resolve(query: Uint8Array, at: string, from: string): Uint8Array | undefined {
  const question = readQuestion(query);
  if (!question) return undefined;
  tell({ kind: "query", at, from, name: question.name });
  const known = names.get(question.name);
  const addresses = known && (known.answers.length > 1 ? known.answers.shift() : known.answers[0]);
  return answer(query, question, addresses, known?.ttl ?? 0);
}

function listenTcp(port: number, speak: Speech, certificate: ServerSetup["certificate"]): void {
  if (speak === "http" || speak === "https") return listenWeb(port, speak === "https" ? certificate : undefined);
  const listener = Deno.listen({ hostname: "::", port });
  void (async () => {
    for await (const connection of listener) {
      const [at, from] = [plain(connection.localAddr as Deno.NetAddr), plain(connection.remoteAddr as Deno.NetAddr)];
      tell({ kind: "connection", at, from });
      speakTo(connection, speak, at, from).catch(() => {}).finally(() => close(connection));
    }
  })();
}

function listenWeb(port: number, certificate: ServerSetup["certificate"] | undefined): void {
  const server = certificate ? createTlsServer(certificate, answerWeb) : createServer(answerWeb);
  server.on("connection", (socket: Socket) => tell({ kind: "connection", ...endsOf(socket) }));
  server.listen(port, "::");
}

function answerWeb(request: IncomingMessage, response: ServerResponse): void {
  const { at, from } = endsOf(request.socket);
  const body: WebAnswer = { reached: at, from, host: request.headers.host ?? "" };
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify(body));
}

function endsOf(socket: Socket): { at: string; from: string } {
  const name = (hostname = "", port = 0) => plain({ transport: "tcp", hostname, port });
  return { at: name(socket.localAddress, socket.localPort), from: name(socket.remoteAddress, socket.remotePort) };
}

async function speakTo(connection: Deno.TcpConn, speak: Speech, at: string, from: string): Promise<void> {
  if (speak === "echo") return await connection.readable.pipeTo(connection.writable);
  if (speak === "sink") return await connection.readable.pipeTo(new WritableStream());
  if (speak === "banner") return void await connection.write(new TextEncoder().encode("SSH-2.0-ground\r\n"));
  if (speak === "source") { for (;;) await connection.write(chunk); }
  const query = new Uint8Array(4096);
  const length = await connection.read(query) ?? 0;
  const reply = length > 2 ? resolve(query.slice(2, length), at, from) : undefined;
  if (!reply) return;
  await connection.write(Uint8Array.from([reply.length >> 8, reply.length & 255, ...reply]));
}

function close(connection: Deno.TcpConn): void {
  try {
    connection.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BadResource)) throw error; // The pipe has closed it.
  }
}

/** One socket for each address: a datagram does not say which one it was sent to. */
function listenUdp(address: string, port: number, speak: ServerSetup["udp"][number]["speak"]): Promise<void> {
  const socket = createSocket(isIpv6(address) ? "udp6" : "udp4");
  const at = plain({ transport: "udp", hostname: address, port });
  socket.on("message", (message, peer) => {
    const from = plain({ transport: "udp", hostname: peer.address, port: peer.port });
    tell({ kind: "datagram", at, from });
    const reply = speak === "dns" ? resolve(message, at, from) : speak === "echo" ? message : undefined;
    if (reply) socket.send(Buffer.from(reply), peer.port, peer.address);
  });
  return new Promise((done, failed) => {
    socket.on("error", failed);
    socket.bind(port, address, done);
  });
}

const lines = Deno.stdin.readable.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream());
let ready = false;
for await (const line of lines) {
  if (!ready) {
    const setup = JSON.parse(line) as ServerSetup;
    for (const { port, speak } of setup.tcp) listenTcp(port, speak, setup.certificate);
    await Promise.all(
      setup.udp.flatMap(({ port, speak, addresses }) => addresses.map((address) => listenUdp(address, port, speak))),
    );
    ready = true;
    tell({ kind: "ready" });
    continue;
  }
  const answers = JSON.parse(line) as NameAnswers;
  names.set(answers.name, answers);
  tell({ kind: "names", name: answers.name });
}
Deno.exit(0);
