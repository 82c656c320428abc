/** The client package against all services and real virtual machines. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { Sandbox, TorporError } from "@torpor/sdk";
import { buildPackage } from "../../../libs/sdk/npm/build.ts";
import { startAllServices } from "../all_services.ts";

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

Deno.test("the client package: a sandbox, its commands and files, sleep, forks", async (t) => {
  await using services = await startAllServices();
  const { url, apiKey } = services;
  const error = await assertRejects(() => Sandbox.create({ url, apiKey, memoryMb: 1 }), TorporError);
  assertEquals([error.code, error.field], ["invalid_argument", "memory_mb"]);
  const wrongKey = await assertRejects(() => Sandbox.create({ url, apiKey: "wrong" }), TorporError);
  assertEquals(wrongKey.code, "unauthenticated");

  let id = "";
  {
    await using sandbox = await Sandbox.create({ url, apiKey, memoryMb: 192, metadata: { for: "sdk" } });
    id = sandbox.id;

    await t.step("commands end with their output and exit code", async () => {
      const result = await sandbox.exec("echo out; echo err >&2; exit 3", { env: { A: "1" } });
      assertEquals([result.stdout, result.stderr, result.exitCode], ["out\n", "err\n", 3]);
      assertEquals((await sandbox.exec("cat", { stdin: "given" })).stdout, "given");
      assertEquals((await sandbox.exec("printf", { args: ["%s", "$HOME"] })).stdout, "$HOME");
    });

    await t.step("a process is written to and read as it runs", async () => {
      const process = sandbox.start("read a; echo got $a; exit 2", { stdin: true });
      await process.write("it\n");
      let output = "";
      for await (const { data } of process) output += text(data);
      assertEquals([output, (await process.wait()).exitCode], ["got it\n", 2]);
      const unread = sandbox.start("head -c 3000000 /dev/zero; exit 4");
      assertEquals((await unread.wait()).exitCode, 4);
      const killed = sandbox.start("sleep 1000");
      await killed.kill(9);
      assertEquals((await killed.wait()).signal, 9);
      const missing = sandbox.start("/no/such/program", { args: ["x"] });
      assertEquals((await assertRejects(() => missing.wait(), TorporError)).code, "file_not_found");
    });

    await t.step("files of all kinds come back as they were", async () => {
      const bytes = crypto.getRandomValues(new Uint8Array(60_000));
      await sandbox.files.write("a/bytes", bytes, { mode: 0o600 });
      await sandbox.files.write("a/text", "text é");
      await sandbox.files.write("a/blob", new Blob([bytes, bytes]));
      await sandbox.files.write("a/stream", new Blob([bytes]).stream());
      assertEquals(await sandbox.files.read("a/bytes"), bytes);
      assertEquals((await sandbox.files.stat("a/bytes")).mode & 0o777, 0o600);
      assertEquals(await sandbox.files.readText("a/text"), "text é");
      assertEquals((await sandbox.files.read("a/blob")).length, 120_000);
      assertEquals(await new Response(await sandbox.files.readStream("a/stream")).bytes(), bytes);
      const names = (await sandbox.files.list("a")).map(({ name }) => name);
      assertEquals(names.sort(), ["blob", "bytes", "stream", "text"]);
      await sandbox.files.remove("a", { recursive: true });
      assertEquals(await sandbox.files.exists("a"), false);
    });

    await t.step("what runs goes on after a sleep, and in forks", async () => {
      const counter = sandbox.start("for i in 1 2; do echo $i; read -r; done", { stdin: true });
      const pid = await counter.started;
      const output = counter[Symbol.asyncIterator]();
      assertEquals(text((await output.next()).value.data), "1\n");
      await sandbox.pause();
      assertEquals(await sandbox.isRunning(), false);
      assertEquals((await assertRejects(() => counter.wait(), TorporError)).code, "sandbox_paused");
      await sandbox.resume();
      const [child] = await sandbox.fork();
      for (const one of [sandbox, child!]) {
        const again = one.attach(pid);
        await again.write("\n\n");
        let seen = "";
        for await (const { data } of again) seen += text(data);
        assertEquals([seen, (await again.wait()).exitCode], ["1\n2\n", 0]);
      }
      await child!.delete();
      await child!.delete();
    });

    await t.step("the npm package does the same in Node", async () => {
      const directory = await Deno.makeTempDir();
      await buildPackage(`${directory}/package`);
      await Deno.copyFile(new URL("client.mjs", import.meta.url), `${directory}/client.mjs`);
      const run = async (command: string, ...args: string[]) => {
        const env = { TORPOR_URL: url, TORPOR_API_KEY: apiKey };
        const output = await new Deno.Command(command, { args, cwd: directory, env }).output();
        assert(output.success, text(output.stderr));
        return text(output.stdout);
      };
      await run("npm", "install", "--no-audit", "--no-fund", "--install-links", "./package");
      assertEquals(JSON.parse(await run("node", "client.mjs", id)), {
        stdout: "from node\n",
        streamed: "1\n2\n",
        exitCode: 5,
        file: "written in Node",
        code: "file_not_found",
        states: ["PAUSED", "RUNNING"],
        listed: true,
      });
      await Deno.remove(directory, { recursive: true });
    });

    const found = await Array.fromAsync(Sandbox.list({ url, apiKey, metadata: { for: "sdk" } }));
    assertEquals(found.map(({ sandboxId }) => sandboxId), [id]);
    const same = await Sandbox.connect(id, { url, apiKey });
    assert(await same.isRunning());
  }
  const gone = await assertRejects(() => Sandbox.connect(id, { url, apiKey }), TorporError);
  assertEquals(gone.code, "sandbox_not_found");
});
