import { assertEquals } from "@std/assert";
import { ReconcilerService } from "@torpor/proto/reconciler";
import { openClient } from "@torpor/rpc";
import { ControlPlane, TOKEN } from "./control_plane.ts";

// A reconciler that leads is killed; the one that stands by goes on with its work. (That its connection ends: reconciler_test.ts.)

Deno.test("the leader is killed: the stand-by leads with its next pass, and repairs what there is", async () => {
  await using plane = await ControlPlane.start();
  await using leader = await startProcess(plane);
  await using standby = await plane.startReconciler({ awaitFirstPass: false, intervalMs: 100 });
  assertEquals([await leads(leader), await leads(standby)], [true, false]);
  const { id } = await plane.create();
  plane.host.sandboxes.delete(id);
  leader.child.kill("SIGKILL");
  await leader.child.status;
  while ((await plane.sandbox(id)).state === "running") {
    // Nothing to wait for: the stand-by looks by itself every 100 ms.
  }
  assertEquals((await plane.sandbox(id)).reason, "vm_gone");
  assertEquals(await leads(standby), true);
});

async function leads({ client }: { client: { getStatus(request: object): Promise<{ leader: boolean }> } }) {
  return (await client.getStatus({})).leader;
}

/** A reconciler as a process of its own, which leads. */
async function startProcess(plane: ControlPlane) {
  const directory = await Deno.makeTempDir();
  const address = `unix:${directory}/r.sock`;
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--no-check",
      "--allow-all",
      new URL("../../../services/reconciler/main.ts", import.meta.url).pathname,
    ],
    env: {
      TORPOR_HOME: directory,
      TORPOR_LISTEN: address,
      TORPOR_INTERNAL_TOKEN: TOKEN,
      DATABASE_URL: plane.test.url,
      TORPOR_SCHEDULER_URL: plane.schedulerUrl,
      TORPOR_RECONCILE_INTERVAL_MS: "100",
      TORPOR_RECONCILE_GRACE_MS: "0",
    },
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const log = child.stderr.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; !text.includes('"leading"');) {
    const { value, done } = await log.read();
    if (done) throw new Error(`the reconciler ended: ${text}`);
    text += value;
  }
  // What it says later must not stop it.
  const drained = (async () => {
    while (!(await log.read()).done);
  })();
  const client = openClient(ReconcilerService, { address, token: TOKEN });
  return {
    child,
    client,
    [Symbol.asyncDispose]: async () => {
      client[Symbol.dispose]();
      try {
        child.kill("SIGKILL");
      } catch (error) {
        // It was killed by the test.
        if (!(error instanceof TypeError)) throw error;
      }
      await child.status;
      await drained;
      await Deno.remove(directory, { recursive: true });
    },
  };
}
