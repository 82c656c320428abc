/** Just enough of DNS (RFC 1035) for a name server of tests: questions for A and AAAA, answers in full. */
import ipaddr from "ipaddr.js";
import { isIpv6 } from "./addresses.ts";

const TYPE = { A: 1, AAAA: 28 } as const;
const NXDOMAIN = 3;
/** Response, authoritative, recursion available. */
const FLAGS = 0x8480;
/** A pointer to the question's name, which begins behind the header. */
const NAME_POINTER = 0xc00c;
const HEADER_BYTES = 12;

/** A question. */
export interface Question {
  name: string;
  type: number;
  /** Where it ends in the message. */
  end: number;
}

/** The only question of a query; undefined when the message is something else. */
export function readQuestion(query: Uint8Array): Question | undefined {
  const view = new DataView(query.buffer, query.byteOffset, query.byteLength);
  if (query.length < HEADER_BYTES + 5 || view.getUint16(4) !== 1) return undefined;
  const labels: string[] = [];
  let at = HEADER_BYTES;
  while (at < query.length && query[at] !== 0) {
    const length = query[at]!;
    if (length > 63) return undefined;
    labels.push(new TextDecoder().decode(query.subarray(at + 1, at + 1 + length)));
    at += 1 + length;
  }
  if (at + 5 > query.length) return undefined;
  return { name: labels.join(".").toLowerCase(), type: view.getUint16(at + 1), end: at + 5 };
}

/**
 * The answer to a query: the addresses of the question's family, or that there is no such name (undefined).
 * @param ttl seconds.
 */
export function answer(
  query: Uint8Array,
  question: Question,
  addresses: string[] | undefined,
  ttl: number,
): Uint8Array {
  const records = (addresses ?? []).filter((address) => question.type === (isIpv6(address) ? TYPE.AAAA : TYPE.A))
    .map((address) => Uint8Array.from(ipaddr.parse(address).toByteArray()));
  const size = records.reduce((sum, data) => sum + HEADER_BYTES + data.length, question.end);
  const message = new Uint8Array(size);
  message.set(query.subarray(0, question.end));
  const view = new DataView(message.buffer);
  view.setUint16(2, FLAGS | (query[2]! & 1) << 8 | (addresses ? 0 : NXDOMAIN));
  view.setUint16(6, records.length);
  view.setUint32(8, 0);
  let at = question.end;
  for (const data of records) {
    view.setUint16(at, NAME_POINTER);
    view.setUint16(at + 2, question.type);
    view.setUint16(at + 4, 1);
    view.setUint32(at + 6, ttl);
    view.setUint16(at + 10, data.length);
    message.set(data, at + 12);
    at += 12 + data.length;
  }
  return message;
}

/** A query as a stub resolver sends it. */
export function query(name: string, type: keyof typeof TYPE = "A"): Uint8Array<ArrayBuffer> {
  const labels = name.split(".").map((label) => new TextEncoder().encode(label));
  const header = [0x5e, 0xed, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
  return Uint8Array.from([...header, ...labels.flatMap((label) => [label.length, ...label]), 0, 0, TYPE[type], 0, 1]);
}
