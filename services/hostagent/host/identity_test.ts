import { assertEquals, assertRejects } from "@std/assert";
import { isId } from "@torpor/ids";
import { TorporError } from "@torpor/errors";
import { Layout } from "../storage/layout.ts";
import { hostIdentity } from "./identity.ts";

Deno.test("a host keeps its id, and a damaged id is an error, not a new host", async () => {
  const home = await Deno.makeTempDir();
  const layout = new Layout(home);
  const id = await hostIdentity(layout);
  assertEquals([isId(id), await hostIdentity(layout)], [true, id]);
  await Deno.writeTextFile(layout.hostId, "x\n");
  assertEquals((await assertRejects(() => hostIdentity(layout), TorporError)).code, "config_invalid");
  await Deno.remove(home, { recursive: true });
});
