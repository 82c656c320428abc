/** A network of the test's own for whoever tests the network: see {@linkcode makeGround}. @module */
export * from "./addresses.ts";
export { query as dnsQuery } from "./dns_answer.ts";
export * from "./ground.ts";
export { Namespace } from "./namespace.ts";
export type { NameAnswers, ServerEvent, WebAnswer } from "./server_protocol.ts";
export { Servers } from "./servers.ts";
export type { Sighting } from "./sightings.ts";
