import { assertEquals, assertThrows } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { Layout } from "./layout.ts";

const layout = new Layout("/srv/torpor", "/srv/cache");

Deno.test("an id that is none never becomes a path", () => {
  for (const odd of ["", "..", "../../etc", "A".repeat(20), "a".repeat(19) + "/"]) {
    for (const path of [() => layout.sandbox(odd), () => layout.snapshot(odd), () => layout.staged(odd)]) {
      assertEquals(assertThrows(path, TorporError).code, "invalid_argument");
    }
  }
});

Deno.test("sockets fit into a unix address below the longest data directory", () => {
  const longest = new Layout("/" + "h".repeat(49)).sandbox("a".repeat(20));
  for (const socket of [longest.qmpSocket, longest.agentSocket, longest.consoleSocket]) {
    assertEquals(socket.length <= 107, true);
  }
});

Deno.test("staged and committed snapshots have the same files in different places", () => {
  const id = "s".repeat(20);
  assertEquals(layout.snapshot(id).state, `/srv/torpor/snapshots/${id}/state`);
  assertEquals(layout.staged(id).state, `/srv/torpor/staging/${id}/state`);
});
