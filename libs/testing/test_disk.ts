// File systems of a test's own, in files: of a kind that the machine's data directory is not, full, or not answering.
import { makeTestHome } from "./hostagent.ts";

const MKFS = {
  ext4: ["mkfs.ext4", "-q", "-F"],
  xfs: ["mkfs.xfs", "-q", "-m", "reflink=1"],
  btrfs: ["mkfs.btrfs", "-q"],
};

/** A mounted file system in a sparse file. Disposing it unmounts and removes it: nothing may use it any more. */
export interface TestDisk extends AsyncDisposable {
  /** Where it is mounted; short enough for the unix sockets of a data directory. */
  directory: string;
}

/** A file system whose disk can stop answering writes, as one does that hangs or is very slow. */
export interface StallableDisk extends TestDisk {
  /** From now on what must be written waits, in the kernel; reads and what stays in the page cache go on. */
  stall(): Promise<void>;
  /** Answers again. Fine when it does. */
  go(): Promise<void>;
}

/** Makes and mounts a file system. XFS needs 300 MiB at least. */
export async function makeTestDisk(fileSystem: keyof typeof MKFS, sizeMb: number): Promise<TestDisk> {
  await using cleanup = new AsyncDisposableStack();
  const home = await makeTestHome();
  cleanup.defer(() => Deno.remove(home, { recursive: true }));
  const directory = await mountImage(cleanup, home, fileSystem, sizeMb);
  const owned = cleanup.move();
  return { directory, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Makes an ext4 file system on a loop device whose file is on another one, which can be frozen. */
export async function makeStallableDisk(sizeMb: number): Promise<StallableDisk> {
  await using cleanup = new AsyncDisposableStack();
  const lower = cleanup.use(await makeTestDisk("ext4", sizeMb + 64));
  const directory = await mountImage(cleanup, lower.directory, "ext4", sizeMb);
  let stalled = false;
  const go = async () => {
    if (!stalled) return;
    await run(["fsfreeze", "--unfreeze", lower.directory]);
    stalled = false;
  };
  cleanup.defer(go);
  const owned = cleanup.move();
  return {
    directory,
    async stall() {
      // What is in the page cache so far shall not be what is waited for.
      await run(["sync", "--file-system", directory]);
      await run(["fsfreeze", "--freeze", lower.directory]);
      stalled = true;
    },
    go,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function mountImage(
  cleanup: AsyncDisposableStack,
  parent: string,
  fileSystem: keyof typeof MKFS,
  sizeMb: number,
): Promise<string> {
  const image = `${parent}/i`;
  const directory = `${parent}/d`;
  await Deno.mkdir(directory);
  (await Deno.create(image)).close();
  await Deno.truncate(image, sizeMb * 2 ** 20);
  await run([...MKFS[fileSystem], image]);
  await run(["mount", "-o", "loop", image, directory]);
  cleanup.defer(() => run(["umount", directory]));
  return directory;
}

async function run(argv: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command(argv[0]!, { args: argv.slice(1), stdin: "null" }).output();
  if (!success) throw new Error(`${argv.join(" ")}: ${new TextDecoder().decode(stderr).trim()}`);
}
