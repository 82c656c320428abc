/** What VMMs and pagers run in, and what of its own power the agent gives up. @module */
export { Jail, type Seat } from "./jail.ts";
export { type JailRecord, jailRecordSchema } from "./jail_record.ts";
export { Jails, type JailsOptions } from "./jails.ts";
export { dropCapabilities } from "./agent_capabilities.ts";
