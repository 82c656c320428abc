import { isErrorCode, TorporError } from "@torpor/errors";
import { z } from "zod";

const errorSchema = z.object({
  code: z.string(),
  message: z.string(),
  field: z.string().optional(),
  hint: z.string().optional(),
});

/**
 * The answer of a REST request that must succeed.
 * @throws TorporError what {@linkcode requireSuccess} says; `unavailable` when the API was not reached.
 */
export async function restAnswer(sent: Promise<Response>): Promise<Response> {
  let response: Response;
  try {
    response = await sent;
  } catch (cause) {
    if (cause instanceof TypeError) throw new TorporError("unavailable", "the API could not be reached", { cause });
    throw cause;
  }
  return await requireSuccess(response);
}

/** Returns a successful response; throws the TorporError that an error answer of the REST surface stands for. */
export async function requireSuccess(response: Response): Promise<Response> {
  if (response.ok) return response;
  const text = await response.text();
  const parsed = errorSchema.safeParse(parseJson(text));
  if (!parsed.success) {
    throw new TorporError("internal", `the server answered ${response.status} without an error body`, {
      cause: new Error(text.slice(0, 500)),
    });
  }
  const { code, message, field, hint } = parsed.data;
  throw new TorporError(isErrorCode(code) ? code : "internal", message, { field, hint });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
