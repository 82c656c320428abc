/** Fields as rows of name and value: those of objects with their path, those that are null not at all. */
export function flattenFields(fields: Record<string, unknown>, prefix = ""): string[][] {
  return Object.entries(fields).flatMap(([name, value]) => {
    if (value === null) return [];
    if (typeof value === "object") return flattenFields(value as Record<string, unknown>, `${prefix}${name}.`);
    return [[prefix + name, String(value)]];
  });
}
