/** What a test and its servers, which run in a namespace, say to each other: one JSON object a line. */

/** What the servers are to be; their first line. */
export interface ServerSetup {
  /** TCP ports of all addresses, by what is spoken there. */
  tcp: { port: number; speak: Speech }[];
  /** UDP ports, of these addresses. */
  udp: { port: number; speak: "dns" | "echo" | "silence"; addresses: string[] }[];
  certificate: { cert: string; key: string };
}

/**
 * What a TCP server speaks. `http` and `https` answer with {@linkcode WebAnswer}, `banner` speaks first, as SSH does, `echo` sends back
 * what it gets, `sink` reads, `source` writes without end.
 */
export type Speech = "http" | "https" | "dns" | "banner" | "echo" | "sink" | "source";

/** How a name is answered from now on. */
export interface NameAnswers {
  name: string;
  /** One query after the other, the last again and again; no answers: the name does not exist. */
  answers: string[][];
  /** Seconds. */
  ttl: number;
}

/** What a web server answers. */
export interface WebAnswer {
  /** The address and port that the client has reached. */
  reached: string;
  /** From where it came. */
  from: string;
  /** The request's Host header. */
  host: string;
}

/** What the servers tell: first `ready`, then whatever reaches them. */
export interface ServerEvent {
  kind: "ready" | "connection" | "datagram" | "query" | "names";
  /** What was reached, `address:port`. */
  at?: string;
  from?: string;
  /** Of a query. */
  name?: string;
}
