/**
 * The deployment's own certificate authority: it names who is who when services speak TLS to each other. The control
 * plane keeps it in the database; docs/decisions/0017-certificates.md has the reasons.
 */
export * from "./authority.ts";
export * from "./control_credentials.ts";
export * from "./host_token.ts";
export * from "./lazy_control_credentials.ts";
export * from "./request.ts";
export * from "./stored_authority.ts";
export * from "./validity.ts";
