import { z } from "@hono/zod-openapi";
import { idText } from "../inputs/text.ts";

/** The path parameter of every route about one sandbox. */
export const sandboxPath = z.object({
  sandbox_id: idText.openapi({ param: { name: "sandbox_id", in: "path" } }),
});
