import { assertEquals, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { WriteFileStreamRequestSchema } from "@torpor/proto/hostagent";
import { type GuestService, startGuestService } from "../guest/testing/guest_service.ts";
import { TEST_USER } from "../guest/testing/native_agent.ts";
import { MAX_UNARY_FILE_BYTES } from "./handlers.ts";

const user = TEST_USER;
type WriteMessage = MessageInitShape<typeof WriteFileStreamRequestSchema>;

function serviceTest(
  name: string,
  work: (service: GuestService) => Promise<void>,
  options: { sanitizeResources?: boolean } = {},
): void {
  const fn = async () => {
    await using service = await startGuestService();
    await work(service);
    assertEquals(service.uses(), 0);
  };
  Deno.test({ name, fn, ...options });
}

async function errorOf(call: Promise<unknown>): Promise<TorporError> {
  return await assertRejects(() => call, TorporError);
}

async function* messages(...all: WriteMessage[]): AsyncGenerator<WriteMessage> {
  yield* all;
}

serviceTest("unary write and read, up to the limit", async ({ client, sandboxId, agent }) => {
  const path = `${agent.directory}/new/file`;
  const content = new Uint8Array(MAX_UNARY_FILE_BYTES).fill(7);
  await client.writeFile({ sandboxId, user, path, content });
  assertEquals((await client.readFile({ sandboxId, user, path })).content.length, MAX_UNARY_FILE_BYTES);
  const tooLong = new Uint8Array(MAX_UNARY_FILE_BYTES + 1);
  assertEquals(
    (await errorOf(client.writeFile({ sandboxId, user, path, content: tooLong }))).code,
    "payload_too_large",
  );
  await Deno.writeFile(path, tooLong);
  assertEquals((await errorOf(client.readFile({ sandboxId, user, path }))).code, "payload_too_large");
  // Its size says nothing about how much comes.
  assertEquals((await errorOf(client.readFile({ sandboxId, user, path: "/dev/zero" }))).code, "payload_too_large");
});

serviceTest("streams both ways", async ({ client, sandboxId, agent }) => {
  const path = `${agent.directory}/file`;
  const chunk = new Uint8Array(300_000).fill(3);
  const meta: WriteMessage = { content: { case: "meta", value: { sandboxId, user, path, mode: 0o640 } } };
  const part: WriteMessage = { content: { case: "chunk", value: chunk } };
  await client.writeFileStream(messages(meta, part, part));
  let length = 0;
  for await (const reply of client.readFileStream({ sandboxId, user, path })) length += reply.chunk.length;
  assertEquals(length, 600_000);
  const { file } = await client.statFile({ sandboxId, user, path });
  assertEquals([file!.name, file!.type, file!.sizeBytes, file!.mode & 0o777], ["file", "file", 600_000n, 0o640]);
});

serviceTest("a stream without meta, or cut, writes nothing", async ({ client, sandboxId, agent }) => {
  const path = `${agent.directory}/file`;
  const meta: WriteMessage = { content: { case: "meta", value: { sandboxId, user, path } } };
  const part: WriteMessage = { content: { case: "chunk", value: new Uint8Array(10) } };
  assertEquals((await errorOf(client.writeFileStream(messages()))).field, "meta");
  assertEquals((await errorOf(client.writeFileStream(messages(part)))).field, "meta");
  assertEquals((await errorOf(client.writeFileStream(messages(meta, part, meta)))).field, "chunk");
  assertEquals((await errorOf(client.statFile({ sandboxId, user, path }))).code, "file_not_found");
  // Deno frees the body of a request that was refused before its end some time after the server has stopped.
}, { sanitizeResources: false });

serviceTest("directories", async ({ client, sandboxId, agent }) => {
  const path = `${agent.directory}/a/b`;
  await client.makeDirectory({ sandboxId, user, path });
  await client.writeFile({ sandboxId, user, path: `${path}/c`, content: new Uint8Array(1) });
  const { files } = await client.listDirectory({ sandboxId, user, path: `${agent.directory}/a`, depth: 2 });
  assertEquals(files.map((file) => [file.path, file.type]), [[path, "directory"], [`${path}/c`, "file"]]);
  assertEquals((await errorOf(client.removeFile({ sandboxId, user, path }))).code, "file_precondition");
  await client.removeFile({ sandboxId, user, path, recursive: true });
  assertEquals((await errorOf(client.listDirectory({ sandboxId, user, path }))).code, "file_not_found");
});

serviceTest("bad input is refused with its field", async ({ client, sandboxId }) => {
  for (const path of ["", "a\0b", "/" + "x".repeat(4096)]) {
    const calls = [
      client.readFile({ sandboxId, path }),
      client.writeFile({ sandboxId, path }),
      client.statFile({ sandboxId, path }),
      client.listDirectory({ sandboxId, path }),
      client.makeDirectory({ sandboxId, path }),
      client.removeFile({ sandboxId, path }),
      client.readFileStream({ sandboxId, path })[Symbol.asyncIterator]().next(),
    ];
    for (const call of calls) {
      const error = await errorOf(call);
      assertEquals([error.code, error.field], ["invalid_argument", "path"]);
    }
  }
  assertEquals((await errorOf(client.listDirectory({ sandboxId, path: "/", depth: 65 }))).field, "depth");
  const value = { sandboxId, path: "/x", mode: 0o10000 };
  assertEquals((await errorOf(client.writeFileStream(messages({ content: { case: "meta", value } })))).field, "mode");
});
