import { assertEquals, assertThrows } from "@std/assert";
import { z } from "zod";
import { TorporError } from "@torpor/errors";
import { homePaths, readConfig, torporHome } from "./mod.ts";

const shape = { PORT_NUMBER: z.coerce.number().int().min(1), NAME: z.string().default("x") };

Deno.test("configuration is typed, with defaults", () => {
  assertEquals(readConfig(shape, { PORT_NUMBER: "7" }), { PORT_NUMBER: 7, NAME: "x" });
});

Deno.test("every variable at fault is named", () => {
  const error = assertThrows(() => readConfig({ ...shape, OTHER: z.string() }, { PORT_NUMBER: "0" }), TorporError);
  assertEquals([error.code, error.field], ["config_invalid", "PORT_NUMBER"]);
  assertEquals([error.message.includes("PORT_NUMBER"), error.message.includes("OTHER")], [true, true]);
});

Deno.test("the data directory: TORPOR_HOME, else by user; a path too long for unix sockets is refused", () => {
  const env = (entries: Record<string, string>) => new Map(Object.entries(entries));
  assertEquals(torporHome(env({ TORPOR_HOME: "/data/t" })), "/data/t");
  const long = "/" + "x".repeat(50);
  assertEquals(assertThrows(() => torporHome(env({ TORPOR_HOME: long })), TorporError).field, "TORPOR_HOME");
  assertEquals(homePaths("/h", "/c").native, "/c/native");
});
