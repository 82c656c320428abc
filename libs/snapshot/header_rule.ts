import { TorporError } from "@torpor/errors";

/** The rules of docs/formats/extent-header.md by name; the pager's reader (ffi/src/extent_header.c) uses the same names. */
export type HeaderRule =
  | "too_short"
  | "magic"
  | "version"
  | "kind"
  | "page_size"
  | "generation"
  | "size_bytes"
  | "source_count"
  | "extent_count"
  | "reserved"
  | "file_size"
  | "crc32c"
  | "source_id"
  | "source_duplicate"
  | "extent_alignment"
  | "extent_length"
  | "extent_reserved"
  | "extent_source"
  | "extent_source_offset"
  | "coverage"
  | "not_merged";

/** An extent header that breaks a rule; its code is `snapshot_corrupt`. */
export class HeaderError extends TorporError {
  readonly rule: HeaderRule;

  constructor(rule: HeaderRule) {
    super("snapshot_corrupt", `the extent header breaks the rule ${rule}`);
    this.rule = rule;
  }
}

/**
 * @throws HeaderError for `rule` when `holds` is false.
 */
export function requireRule(holds: boolean, rule: HeaderRule): asserts holds {
  if (!holds) throw new HeaderError(rule);
}
