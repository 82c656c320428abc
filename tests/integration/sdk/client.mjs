// Run by sdk_test.ts in Node, with the npm package: uses the sandbox that it is given, and prints what it saw.
import { Sandbox, SandboxState } from "@torpor/sdk";

const sandbox = await Sandbox.connect(process.argv[2]);
const { stdout } = await sandbox.exec("echo from node");
const running = sandbox.start("echo 1; read; echo 2; exit 5", { stdin: true });
let streamed = "";
for await (const { data } of running) {
  streamed += new TextDecoder().decode(data);
  if (streamed === "1\n") await running.write("\n");
}
const { exitCode } = await running.wait();
await sandbox.files.write("node/a.txt", new Blob(["written in ", "Node"]));
const file = await sandbox.files.readText("node/a.txt");
const { code } = await sandbox.files.read("/no/such").catch((error) => error);
const states = [];
await sandbox.pause();
states.push(SandboxState[(await sandbox.info()).state]);
await sandbox.resume();
states.push(SandboxState[(await sandbox.info()).state]);
let listed = false;
for await (const { sandboxId } of Sandbox.list()) listed ||= sandboxId === sandbox.id;
console.log(JSON.stringify({ stdout, streamed, exitCode, file, code, states, listed }));
