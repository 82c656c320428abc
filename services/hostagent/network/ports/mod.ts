export { PortConnections } from "./port_connections.ts";
export { portRoutes } from "./port_routes.ts";
