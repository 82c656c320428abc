import { z } from "@hono/zod-openapi";

export const traceId = z.string().regex(/^[0-9a-f]{32}$/, "must be 32 hexadecimal digits, lower case")
  .openapi({ example: "0af7651916cd43dd8448eb211c80319c" });

export const traceLimit = z.int().min(1).max(1000).default(100);
