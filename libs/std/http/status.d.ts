// The part of @std/http/status that is used here (the npm package carries no types).
export const STATUS_CODE: Readonly<Record<string, number>>;
export const STATUS_TEXT: Readonly<Record<number, string>>;
