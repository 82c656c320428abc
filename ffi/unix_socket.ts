/** Unix sockets that carry descriptors. @module */
import { Descriptor } from "./descriptor.ts";
import { check } from "./errors.ts";
import { cString, keepingAlive, native } from "./library.ts";

const MAX_DESCRIPTORS = 32;
const DEFAULT_CAPACITY = 64 * 1024;

/** Two connected stream sockets, both the caller's. */
export function socketPair(): [Descriptor, Descriptor] {
  const pair = new Int32Array(2);
  check("socketPair", native().torpor_socket_pair(pair));
  return [new Descriptor(pair[0]!), new Descriptor(pair[1]!)];
}

/** Connects to a listening stream socket. `native_enametoolong` when the path has more than 107 bytes. */
export function unixConnect(path: string): Descriptor {
  return new Descriptor(check("unixConnect", native().torpor_unix_connect(cString("unixConnect", path)), path));
}

/**
 * A listening stream socket that only this user can connect to, in the place of whatever socket has this name. For a program that may
 * not make one itself. `native_enametoolong` when the path has more than 107 bytes.
 * @param backlog connections that may wait to be accepted.
 */
export function unixListen(path: string, backlog: number): Descriptor {
  return new Descriptor(check("unixListen", native().torpor_unix_listen(cString("unixListen", path), backlog), path));
}

/**
 * Sends `data` (not empty) with up to 32 descriptors as one message. The receiver gets duplicates; `descriptors` stay the caller's
 * and may be closed when the call returns.
 */
export function sendDescriptors(socketFd: number, data: Uint8Array<ArrayBuffer>, descriptors: readonly number[]): void {
  const numbers = Int32Array.from(descriptors.length ? descriptors : [-1]);
  const length = BigInt(data.byteLength);
  check("sendDescriptors", native().torpor_send_descriptors(socketFd, data, length, numbers, descriptors.length));
}

/** One received message. */
export interface ReceivedMessage {
  /** Empty at the end of the stream. */
  readonly data: Uint8Array<ArrayBuffer>;
  /** The caller's to close. */
  readonly descriptors: Descriptor[];
}

export interface ReceiveOptions {
  /** Milliseconds; `native_etimedout` after that. Without it the wait is unbounded and takes one of Deno's 32 blocking threads. */
  timeoutMs?: number;
  /** Leaves the message in the queue for the next reader; the descriptors are duplicates. */
  peek?: boolean;
  /** Bytes of data to make room for, 64 KiB by default. */
  capacity?: number;
}

/** Receives one message. The socket must stay open until the call settles. `native_emsgsize` when it does not fit. */
export async function receiveDescriptors(socketFd: number, options: ReceiveOptions = {}): Promise<ReceivedMessage> {
  const data = new Uint8Array(options.capacity ?? DEFAULT_CAPACITY);
  const numbers = new Int32Array(MAX_DESCRIPTORS);
  const count = new Uint32Array(1);
  const call = native().torpor_receive_descriptors(
    socketFd,
    data,
    BigInt(data.byteLength),
    numbers,
    count,
    options.timeoutMs ?? -1,
    options.peek ? 1 : 0,
  );
  const length = check("receiveDescriptors", await keepingAlive(call, data, numbers, count));
  const descriptors = Array.from(numbers.subarray(0, count[0]!), (fd) => new Descriptor(fd));
  return { data: data.slice(0, length), descriptors };
}
