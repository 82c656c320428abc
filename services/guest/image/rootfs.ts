import { join } from "@std/path";
import { removeTree } from "./artefact.ts";
import { exists } from "./command.ts";

const USER = { name: "user", id: 1000, home: "/home/user" };

/** Makes an unpacked Debian system the root of a sandbox: its user, its names, nothing of the build left. */
export async function prepareRootfs(root: string): Promise<void> {
  await addUser(root);
  await Deno.symlink("python3", join(root, "usr/bin/python"));
  await write(root, "etc/hostname", "sandbox\n");
  await write(root, "etc/hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 sandbox\n");
  // mmdebstrap copies the build machine's: the guest's own comes with its network.
  await write(root, "etc/resolv.conf", "");
  // Empty: each sandbox makes its own at its first boot.
  await write(root, "etc/machine-id", "", 0o444);
  await speedUpLogin(root);
  await write(root, "etc/fstab", "# The root is an overlay, made by the initramfs.\n");
  await removeBuildTraces(root);
}

async function addUser(root: string): Promise<void> {
  const { name, id, home } = USER;
  await append(root, "etc/passwd", `${name}:x:${id}:${id}::${home}:/bin/bash\n`);
  await append(root, "etc/group", `${name}:x:${id}:\n`);
  // No password works; sudo asks for none.
  await append(root, "etc/shadow", `${name}:*:19000:0:99999:7:::\n`);
  await append(root, "etc/gshadow", `${name}:!::\n`);
  await write(root, `etc/sudoers.d/${name}`, `${name} ALL=(ALL:ALL) NOPASSWD: ALL\n`, 0o440);
  const directory = join(root, home);
  await Deno.mkdir(directory, { recursive: true });
  for await (const entry of Deno.readDir(join(root, "etc/skel"))) {
    const file = join(directory, entry.name);
    await Deno.copyFile(join(root, "etc/skel", entry.name), file);
    await Deno.chown(file, id, id);
  }
  await Deno.chmod(directory, 0o755);
  await Deno.chown(directory, id, id);
}

/** Each command runs in a login shell, and Debian's profile starts a program there only to learn the user's number. */
async function speedUpLogin(root: string): Promise<void> {
  const file = join(root, "etc/profile");
  const profile = await Deno.readTextFile(file);
  const faster = profile.replace('"$(id -u)"', '"${EUID:-$(id -u)}"');
  if (faster === profile) throw new Error("/etc/profile does not ask for the user's number as it did in Debian 12");
  await Deno.writeTextFile(file, faster);
}

async function removeBuildTraces(root: string): Promise<void> {
  for (const path of ["var/lib/apt/lists", "var/cache/apt", "var/cache/debconf", "var/log", "run", "tmp"]) {
    await emptyDirectory(join(root, path));
  }
  // Options that were only for the build (the proxy of this machine).
  await removeTree(join(root, "etc/apt/apt.conf.d/99mmdebstrap"));
}

/** Removes the files below a directory and keeps its subdirectories, which belong to packages. */
async function emptyDirectory(path: string): Promise<void> {
  if (!await exists(path)) return;
  for await (const entry of Deno.readDir(path)) {
    const child = join(path, entry.name);
    if (entry.isDirectory) await emptyDirectory(child);
    else await Deno.remove(child);
  }
}

async function write(root: string, path: string, content: string, mode = 0o644): Promise<void> {
  const file = join(root, path);
  // A link here would lead out of the tree into this machine's own files.
  await removeTree(file);
  await Deno.writeTextFile(file, content);
  await Deno.chmod(file, mode);
}

async function append(root: string, path: string, text: string): Promise<void> {
  await Deno.writeTextFile(join(root, path), text, { append: true });
}
