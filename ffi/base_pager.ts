/** Talking to torpor-base-pager (messages: include/base_control.h). @module */
import { NativeError } from "./errors.ts";
import { receiveDescriptors, sendDescriptors, socketPair } from "./unix_socket.ts";

const MAGIC = 0x45534142;
const JOIN = 1;
const EPIPE = 32;
const REPLY_BYTES = 8;

/** A VMM that a base pager is to serve. The descriptors stay the caller's and may be closed when the call has settled. */
export interface SiblingJoin {
  /** The socket that the VMM's message arrives at; it closes when the VMM is gone. */
  readonly socketFd: number;
  /** A memfd of {@linkcode pagerStatsSize} bytes. */
  readonly statsFd: number;
  /** With it, the end of the socket means nothing: the message is from an agent that hands over a userfaultfd. */
  readonly vmmPidfd?: number;
  readonly timeoutMs: number;
}

/**
 * Asks a base pager to serve one more VMM.
 * @param control the agent's end of its control socket.
 * @returns the number of the statistics memfd inside the pager, by which a later agent finds it.
 * @throws {NativeError} `native_epipe` when the pager has ended or ends now; `native_etimedout`; `native_emfile` when it has too many.
 */
export async function joinBase(control: number, sibling: SiblingJoin): Promise<number> {
  const [own, theirs] = socketPair();
  using _own = own;
  const message = new Uint8Array(Uint32Array.of(MAGIC, JOIN).buffer);
  const descriptors = [sibling.socketFd, sibling.statsFd, theirs.fd];
  if (sibling.vmmPidfd !== undefined) descriptors.push(sibling.vmmPidfd);
  try {
    sendDescriptors(control, message, descriptors);
  } finally {
    // The pager has the only other one now: it closes when the pager ends with the message unread.
    theirs.close();
  }
  const { data } = await receiveDescriptors(own.fd, { timeoutMs: sibling.timeoutMs, capacity: REPLY_BYTES });
  if (data.byteLength !== REPLY_BYTES) throw new NativeError("joinBase", EPIPE, { detail: "the pager has ended" });
  const [error, statsFd] = new Int32Array(data.buffer);
  if (error) throw new NativeError("joinBase", error);
  return statsFd!;
}
