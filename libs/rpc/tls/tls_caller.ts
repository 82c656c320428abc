import { X509Certificate } from "node:crypto";
import type { TLSSocket } from "node:tls";
import { peerOfDnsName } from "./peer.ts";

/**
 * Who is at the other end of a TLS connection, by the certificate shown. The handshake has proved that the caller has
 * its key (test: "a certificate without its key is refused").
 */
export interface TlsCaller {
  /** The peer of a valid certificate; "" for everybody else. */
  peer: string;
  /** The peer of a certificate of this deployment that is out of date; "" for everybody else. */
  expiredPeer: string;
  /** For how long it was out of date when the connection began, ms; else 0. */
  expiredForMs: number;
}

const NOBODY: TlsCaller = { peer: "", expiredPeer: "", expiredForMs: 0 };

/** A connection's caller stays who it is. */
const known = new WeakMap<TLSSocket, TlsCaller>();

/** Reads the caller of a connection. @param authority PEM. */
export function tlsCaller(socket: TLSSocket, authority: string): TlsCaller {
  const caller = known.get(socket) ?? readCaller(socket, authority);
  known.set(socket, caller);
  return caller;
}

function readCaller(socket: TLSSocket, authority: string): TlsCaller {
  const raw = socket.getPeerCertificate()?.raw;
  if (!raw) return NOBODY;
  const certificate = new X509Certificate(raw);
  const peer = peerOf(certificate);
  if (socket.authorized) return { ...NOBODY, peer };
  // Out of date is no question for the TLS library, which says only that the certificate is not valid.
  const ours = certificate.verify(new X509Certificate(authority).publicKey);
  const expiredForMs = Date.now() - Date.parse(certificate.validTo);
  return ours && expiredForMs > 0 ? { peer: "", expiredPeer: peer, expiredForMs } : NOBODY;
}

function peerOf({ subjectAltName }: X509Certificate): string {
  const names = (subjectAltName ?? "").split(", ").filter((name) => name.startsWith("DNS:"));
  // The authority issues certificates with one name only.
  return names.length === 1 ? peerOfDnsName(names[0]!.slice("DNS:".length)) ?? "" : "";
}
