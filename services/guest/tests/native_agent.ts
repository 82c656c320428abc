/** The agent's core as a program of this machine, built with sanitizers, with users and a small file system of its own. */
import { fromFileUrl, join } from "@std/path";
import { homePaths, torporHome } from "@torpor/config";
import { GuestClient } from "./guest_client.ts";

const SERVICE_DIRECTORY = fromFileUrl(new URL("..", import.meta.url));
// Where `make test` of the test runner builds as well.
const BUILD_DIRECTORY = join(homePaths(torporHome()).cache, "test/services-guest");
const USER_ID = 64321;

/** A running agent. Disposing it hangs up and checks that it ended cleanly, without leaks or sanitizer reports. */
export interface NativeAgent extends AsyncDisposable {
  client: GuestClient;
  /** The home of its user `user`, which is unprivileged. */
  home: string;
  /** An empty file system of 1 MiB. */
  smallDirectory: string;
}

// The mounts live in a namespace of their own and vanish with the agent.
const LAUNCH = `
  mount --make-rprivate /
  mount --bind "$1/passwd" /etc/passwd
  mount -t tmpfs -o size=1m,mode=1777 tmpfs "$1/small"
  exec "$2" "$1/agent.sock"
`;

let built: Promise<void> | undefined;

async function build(): Promise<void> {
  const { success, stderr } = await new Deno.Command("make", {
    args: ["-s", "-C", SERVICE_DIRECTORY, "native", `BUILD_DIR=${BUILD_DIRECTORY}`],
    stdout: "null",
    stderr: "piped",
  }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
}

/**
 * Starts an agent and greets it. Needs root.
 * @param env what tests/native_platform.c reads.
 */
export async function startNativeAgent(env: Record<string, string> = {}): Promise<NativeAgent> {
  await (built ??= build());
  const directory = await Deno.makeTempDir({ prefix: "torpor-agent-" });
  await Deno.chmod(directory, 0o755);
  const home = join(directory, "home");
  await Deno.mkdir(home);
  await Deno.chown(home, USER_ID, USER_ID);
  await Deno.mkdir(join(directory, "small"));
  await Deno.writeTextFile(
    join(directory, "passwd"),
    `root:x:0:0:root:/root:/bin/bash\nuser:x:${USER_ID}:${USER_ID}::${home}:/bin/bash\n`,
  );
  const listener = Deno.listen({ transport: "unix", path: join(directory, "agent.sock") });
  const process = new Deno.Command("unshare", {
    args: ["-m", "sh", "-euc", LAUNCH, "sh", directory, join(BUILD_DIRECTORY, "torpor-agent-test")],
    env,
    stdin: "null",
    stdout: "null",
    stderr: "inherit",
  }).spawn();
  const client = new GuestClient(await listener.accept());
  listener.close();
  await client.hello();
  return {
    client,
    home,
    smallDirectory: join(directory, "small"),
    [Symbol.asyncDispose]: async () => {
      await client[Symbol.asyncDispose]();
      const { code, signal } = await process.status;
      await Deno.remove(directory, { recursive: true });
      if (code !== 0) throw new Error(`the agent ended with ${signal ?? code}`);
    },
  };
}
