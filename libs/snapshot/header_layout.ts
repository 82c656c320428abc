/** Numbers of docs/formats/extent-header.md that the encoder and the decoder share. */
export const MAGIC = new TextEncoder().encode("TORPOREX");
export const VERSION = 1;
export const FIXED_BYTES = 64;
export const RECORD_BYTES = 32;
export const ID_BYTES = 20;
export const MAX_SIZE_BYTES = 2 ** 44;
export const MAX_SOURCES = 65_535;
/** Doubles are exact up to here, and no file is that long. */
export const MAX_SOURCE_OFFSET = 2 ** 52;
export const KINDS = { memory: 1, disk: 2 } as const;

/** Byte offsets of the fixed part's fields. */
export const FIELD = {
  version: 8,
  kind: 12,
  pageSize: 16,
  generation: 20,
  sizeBytes: 24,
  sourceCount: 32,
  crc32c: 36,
  extentCount: 40,
  reserved: 48,
} as const;
