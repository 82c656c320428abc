import type { z } from "zod";
import type { Api } from "./api.ts";

/** A REST call with a JSON body, or none, whose answer has the form of `schema`. */
export async function jsonCall<Schema extends z.ZodType>(
  api: Api,
  schema: Schema,
  path: string,
  init: { method?: string; json?: unknown } = {},
): Promise<z.output<Schema>> {
  const { method = "GET", json } = init;
  const body = json === undefined
    ? {}
    : { body: JSON.stringify(json), headers: { "content-type": "application/json" } };
  const response = await api.rest(path, { method, ...body });
  return schema.parse(await response.json());
}

/** A query string of what is given; "" of nothing. */
export function queryOf(parameters: Record<string, string | undefined>): string {
  const given = Object.entries(parameters).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return given.length === 0 ? "" : `?${new URLSearchParams(given)}`;
}
