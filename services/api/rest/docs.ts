import type { RestApp } from "./environment.ts";
import type { PathTable } from "./path_table.ts";

const DESCRIPTION = `Self-hosted microVM sandboxes that sleep and wake.

Every call but this page needs an API key: \`Authorization: Bearer e2b_…\` or \`X-API-Key: e2b_…\`.
Errors are \`{code, message, field?, hint?, details?, trace_id?}\`; \`code\` is stable. \`x-trace-id\` names the trace of each call.
Routes for administrators take the deployment's internal token as the bearer instead; it acts for the default team.
POSTs of the lifecycle take an \`Idempotency-Key\` header: a repeat with the same body returns the first answer.
The same handlers answer ConnectRPC (\`torpor.v1\`), see \`proto/torpor/v1\`.`;

const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Torpor API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
`;

const START =
  `SwaggerUIBundle({ url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null });\n`;

/** Nothing of the page comes from another origin, and nothing inline runs but Swagger UI's styles. */
const PAGE_HEADERS = {
  "content-type": "text/html; charset=utf-8",
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'",
};

/** `/openapi.json` (OpenAPI 3.1) and a page at `/docs` to read and try it; both without a key, the page works offline. */
export function addDocs(app: RestApp, paths: PathTable): void {
  app.openAPIRegistry.registerComponent("securitySchemes", "bearer", { type: "http", scheme: "bearer" });
  app.openAPIRegistry.registerComponent("securitySchemes", "key", { type: "apiKey", in: "header", name: "X-API-Key" });
  app.doc31("/openapi.json", {
    openapi: "3.1.0",
    info: {
      title: "Torpor",
      version: "v1",
      description: DESCRIPTION,
      license: { name: "Apache-2.0" },
    },
    security: [{ bearer: [] }, { key: [] }],
  });
  app.get("/docs", (c) => c.body(PAGE, 200, PAGE_HEADERS));
  app.get("/docs/start.js", (c) => c.body(START, 200, asset("text/javascript")));
  app.get("/docs/swagger-ui.css", async (c) => c.body(await styles(), 200, asset("text/css")));
  app.get("/docs/swagger-ui-bundle.js", async (c) => c.body(await script(), 200, asset("text/javascript")));
  for (
    const path of ["/openapi.json", "/docs", "/docs/start.js", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js"]
  ) {
    paths.add("get", path);
  }
}

function asset(type: string): Record<string, string> {
  return { "content-type": `${type}; charset=utf-8`, "cache-control": "max-age=3600" };
}

/** 1.5 MB of text, loaded when somebody looks at the page for the first time. */
async function script(): Promise<string> {
  return (await import("swagger-ui-dist/swagger-ui-bundle.js", { with: { type: "text" } })).default;
}

async function styles(): Promise<string> {
  return (await import("swagger-ui-dist/swagger-ui.css", { with: { type: "text" } })).default;
}
