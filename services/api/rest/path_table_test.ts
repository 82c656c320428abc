import { assertEquals } from "@std/assert";
import { PathTable } from "./path_table.ts";

Deno.test("a path is found whatever its method, and fixed segments win over parameters", () => {
  const table = new PathTable();
  table.add("get", "/v1/things/{id}");
  table.add("delete", "/v1/things/{id}");
  table.add("post", "/v1/things/all");
  table.add("get", "/v1/things.json");
  assertEquals(table.find("/v1/things/7")?.template, "/v1/things/{id}");
  assertEquals([...table.find("/v1/things/7")!.methods], ["GET", "DELETE"]);
  assertEquals(table.find("/v1/things/all")?.template, "/v1/things/all");
  for (const path of ["/v1/things", "/v1/things/", "/v1/things/7/8", "/v1/thingsxjson", ""]) {
    assertEquals(table.find(path), undefined, path);
  }
});
