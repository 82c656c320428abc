import { assertEquals, assertStrictEquals } from "@std/assert";
import { asTorporError, isErrorCode, TorporError } from "./mod.ts";

Deno.test("a code decides the HTTP status, and the cause is kept", () => {
  const cause = new Error("below");
  const error = new TorporError("no_capacity", "full", { cause, retryAfterSec: 5 });
  assertEquals([error.httpStatus, error.retryAfterSec], [503, 5]);
  assertStrictEquals(error.cause, cause);
  assertStrictEquals(asTorporError(error), error);
});

Deno.test("what is no TorporError becomes internal and tells its message to nobody", () => {
  const error = asTorporError(new Error("/etc/secret"));
  assertEquals([error.code, error.message.includes("secret"), (error.cause as Error).message], [
    "internal",
    false,
    "/etc/secret",
  ]);
  assertEquals([isErrorCode("conflict"), isErrorCode("toString")], [true, false]);
});
