/** A network of the test's own for whoever tests the network: see {@linkcode makeGround}. @module */
export * from "./addresses.ts";
export * from "./ground.ts";
export { Namespace } from "./namespace.ts";
export type { NameAnswers, ServerEvent, WebAnswer } from "./server_protocol.ts";
export { Servers } from "./servers.ts";
export type { Sighting } from "./sightings.ts";
