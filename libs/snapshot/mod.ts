export * from "./crc32c.ts";
export * from "./extent_table.ts";
export * from "./decode_header.ts";
export * from "./encode_header.ts";
export * from "./header_rule.ts";
export * from "./manifest.ts";
export * from "./overlay.ts";
export * from "./working_set.ts";
