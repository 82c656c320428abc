/**
 * Requests to the ports of sandboxes, on their way from the api's listener to the host agent:
 *
 *     gateway.ts           takes them, counts them             target.ts (which port), refusal.ts (E2B's error bodies)
 *     reach.ts             finds the sandbox, wakes it, opens a tunnel to the port through its host agent
 *     http_exchange.ts     one HTTP request through one tunnel  headers.ts, tunnel_duplex.ts
 *     upgrade_exchange.ts  WebSocket and other protocols: bytes
 *
 * The client, the sandbox's program and each of them against the other are hostile: both messages are parsed and written
 * anew, a tunnel carries one request, and a connection that was not upgraded ends with its answer.
 */
export { PORT_DEFAULTS, PortGateway, type PortSettings } from "./gateway.ts";
