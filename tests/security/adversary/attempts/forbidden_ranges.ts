/** Attempts to reach what no sandbox may reach: metadata services, private and special ranges, of both families. */
import { FORBIDDEN, INTERNET_PORTS } from "../../ground/mod.ts";
import type { Attempt } from "../attempt.ts";
import { reaching } from "./reaching.ts";

const QUICK = ["metadata", "RFC 1918 10/8", "RFC 1918 192.168/16", "carrier-grade NAT", "unique local v6"];

const { http, echo } = INTERNET_PORTS;

/** One for each range, and some by UDP and ICMP. */
export const forbiddenAttempts: Attempt[] = [
  ...Object.entries(FORBIDDEN).map(([range, address]) =>
    reaching({
      name: `${range} by tcp`,
      quick: QUICK.includes(range),
      by: "tcp",
      target: () => ({ address, port: http }),
    })
  ),
  ...(["metadata", "RFC 1918 10/8", "unique local v6"] as const).map((range) =>
    reaching({ name: `${range} by udp`, by: "udp", target: () => ({ address: FORBIDDEN[range], port: echo }) })
  ),
  ...(["link-local", "RFC 1918 172.16/12"] as const).map((range) =>
    reaching({ name: `${range} by ping`, by: "ping", target: () => ({ address: FORBIDDEN[range], port: 0 }) })
  ),
];
