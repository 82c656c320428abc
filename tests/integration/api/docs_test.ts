import { assert, assertEquals } from "@std/assert";
import { type Json, TestApi } from "./harness.ts";

Deno.test("the description is OpenAPI 3.1 and complete", async () => {
  await using api = await TestApi.start();
  const document = (await api.call("GET", "/openapi.json", { key: "" })).json as Json;
  assert(document.openapi.startsWith("3.1"));
  const operations = Object.entries<Record<string, Json>>(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ name: `${method} ${path}`, path, operation }))
  );
  for (const { name, path, operation } of operations) {
    assert(operation.summary, `${name} has no summary`);
    assertEquals(operation.tags.length, 1, name);
    const success = Object.keys(operation.responses).filter((status) => status.startsWith("2"));
    assert(success.length > 0 && operation.responses["401"] && operation.responses["422"], name);
    const declared = (operation.parameters ?? []).filter((p: Json) => p.in === "path").map((p: Json) => p.name);
    assertEquals(declared, [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]), name);
  }
  assertEquals(Object.keys(document.components.securitySchemes), ["bearer", "key"]);
  assertEquals(document.components.schemas.CreateSandbox.properties.memory_mb.minimum, 128);
  const references = JSON.stringify(document).matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g);
  for (const [, name] of references) assert(document.components.schemas[name!], `nothing describes ${name}`);
});

Deno.test("the page loads nothing from elsewhere", async () => {
  await using api = await TestApi.start();
  const page = await api.call("GET", "/docs", { key: "" });
  assertEquals(page.status, 200);
  const links = [...page.text.matchAll(/(?:src|href)="([^"]+)"/g)].map((match) => match[1]!);
  assertEquals(links.length, 3);
  for (const link of links) {
    assert(link.startsWith("/docs/"), link);
    const asset = await api.call("GET", link, { key: "" });
    assertEquals(asset.status, 200);
    assert(/^text\/(css|javascript)/.test(asset.headers.get("content-type")!));
  }
  assert(page.headers.get("content-security-policy")!.includes("default-src 'none'"));
});
