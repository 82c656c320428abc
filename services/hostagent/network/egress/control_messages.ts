/** What the agent and the proxy's process tell each other: one JSON value a line, over a unix socket. @module */
import { z } from "zod";
import { type RefusalReason, REFUSALS } from "./refusal.ts";

/** A line can be this long: 512 domains of 253 characters, and then some. */
export const MAX_LINE_LENGTH = 1 << 20;

const address = z.ipv4();
const slot = z.object({ hostAddress: address, slotAddress: address });

/** A call of the agent; `id` is in its reply. Calls are carried out one after the other. */
export const callSchema = z.discriminatedUnion("call", [
  z.object({ id: z.int(), call: z.literal("set_rules"), slot, domains: z.array(z.string()) }),
  z.object({ id: z.int(), call: z.literal("retain"), slotAddresses: z.array(address) }),
  z.object({ id: z.int(), call: z.literal("stats") }),
  z.object({ id: z.int(), call: z.literal("end") }),
]);
export type Call = z.infer<typeof callSchema>;
/** A call without its number. */
export type CallBody = Call extends infer Each ? Each extends Call ? Omit<Each, "id"> : never : never;

const reasons = Object.keys(REFUSALS) as [RefusalReason, ...RefusalReason[]];
const reason = z.enum(reasons);
const counts = z.partialRecord(z.enum(["passed", ...reasons]), z.int().min(0));

/** What the process says. The agent checks it: the process handles what guests send. */
export const messageSchema = z.discriminatedUnion("message", [
  /** The first one on each connection. */
  z.object({
    message: z.literal("hello"),
    /** Of its code and configuration: another one's process is replaced. */
    fingerprint: z.string(),
    /** Slots that have rules. */
    slotAddresses: z.array(address),
  }),
  z.object({ message: z.literal("done"), id: z.int() }),
  z.object({ message: z.literal("failed"), id: z.int(), error: z.string().max(2000) }),
  z.object({ message: z.literal("stats"), id: z.int(), slots: z.int(), connections: z.int(), outcomes: counts }),
  /** A refused connection; not each one, if there are many. */
  z.object({
    message: z.literal("refused"),
    slotAddress: address,
    protocol: z.enum(["http", "tls"]),
    reason,
    name: z.string().max(253).optional(),
    detail: z.string().max(500).optional(),
    /** Refusals of this slot that were not told since the last one. */
    untold: z.int(),
  }),
  /** Connections that have ended since the last message of this kind, by how they went. */
  z.object({ message: z.literal("outcomes"), outcomes: counts }),
]);
export type Message = z.infer<typeof messageSchema>;

/** What the process is started with, as its only argument. */
export const processConfigSchema = z.object({
  /** Where it listens for the agent. */
  socket: z.string(),
  fingerprint: z.string(),
  /** Whom it becomes once it listens. Absent: it stays who it is. */
  uid: z.int().min(1).optional(),
  httpPort: z.int(),
  tlsPort: z.int(),
  /** `address` or `address:port`. */
  resolvers: z.array(z.string()).min(1),
  /** Refused besides the reserved addresses: CIDRs. */
  refusedRanges: z.array(z.string()),
});
export type ProcessConfig = z.infer<typeof processConfigSchema>;
