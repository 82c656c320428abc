import { TorporError } from "@torpor/errors";
import type { Report } from "../terminal/progress.ts";
import { runLines, runTool, succeeds } from "../tool/run_tool.ts";

/** A Debian package and what Torpor uses it for. */
export interface Package {
  name: string;
  use: string;
}

/** What running sandboxes, building the native code and building the guest images needs. */
export const PACKAGES: readonly Package[] = [
  { name: "qemu-system-x86", use: "runs the microVMs" },
  { name: "postgresql", use: "keeps the control plane's state" },
  { name: "gcc", use: "builds the native code and the guest agent" },
  { name: "libc6-dev", use: "builds the native code and the guest agent" },
  { name: "make", use: "builds the native code and the guest agent" },
  { name: "libprotobuf-c-dev", use: "builds the guest agent" },
  { name: "protobuf-c-compiler", use: "builds the guest agent" },
  { name: "mmdebstrap", use: "builds the guest's base image" },
  { name: "e2fsprogs", use: "makes the guest's file systems" },
  { name: "iproute2", use: "makes the networks of host agents and sandboxes" },
  { name: "nftables", use: "says what sandboxes may reach" },
  { name: "lz4", use: "unpacks the guest kernel" },
];

/** What the tests need besides. */
export const TEST_PACKAGES: readonly Package[] = [
  { name: "stress-ng", use: "verifies the memory of a guest in a test" },
  { name: "xfsprogs", use: "makes a file system with reflinks in a test" },
  { name: "btrfs-progs", use: "makes a file system with reflinks in a test" },
  { name: "libfaketime", use: "sets the clocks of services in a test" },
];

/** The packages of {@linkcode PACKAGES} that are not installed. */
export async function missingPackages(packages: readonly Package[] = PACKAGES): Promise<Package[]> {
  const installed = new Set<string>();
  // dpkg-query exits with 1 when it does not know one of them; what it prints about the others is right all the same.
  const query = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", ...packages.map(({ name }) => name)];
  await runLines(query, { hint: "Torpor installs its tools as Debian packages: use Debian 12 or later" }, (line) => {
    const [name, status] = line.split(" ");
    if (status === "installed") installed.add(name!);
  });
  return packages.filter(({ name }) => !installed.has(name));
}

/**
 * Installs Debian packages with apt-get. The PostgreSQL cluster that Debian's package makes and starts by itself is
 * dropped again when there was none before; existing clusters are not touched.
 */
export async function installPackages(packages: readonly Package[], report: Report): Promise<void> {
  const clustersBefore = await postgresClusters();
  const onLine = (line: string) => line.trim() && report(line.trim());
  const env = { DEBIAN_FRONTEND: "noninteractive" };
  const names = packages.map(({ name }) => name);
  const install = ["apt-get", "-qy", "-o", "DPkg::Lock::Timeout=120", "install", "--no-install-recommends", ...names];
  if (await packageListsUsable(names)) {
    try {
      await runTool(install, { env, onLine });
      return await dropNewClusters(clustersBefore);
    } catch (error) {
      // Old lists name versions that the mirror has replaced: new ones may help.
      report(error instanceof TorporError ? "updating the package lists and trying again" : String(error));
    }
  }
  await runTool(["apt-get", "-q", "-o", "DPkg::Lock::Timeout=120", "update"], { env, onLine });
  await runTool(install, { env, onLine, hint: `run it yourself: ${install.join(" ")}` });
  await dropNewClusters(clustersBefore);
}

async function packageListsUsable(names: readonly string[]): Promise<boolean> {
  return await succeeds(["apt-get", "-s", "-q", "install", "--no-install-recommends", ...names]);
}

/** "15 main" and so on. */
async function postgresClusters(): Promise<Set<string>> {
  const clusters = new Set<string>();
  if (!await succeeds(["pg_lsclusters"])) return clusters;
  await runTool(["pg_lsclusters", "--no-header"], {
    onLine: (line) => clusters.add(line.split(/\s+/).slice(0, 2).join(" ")),
  });
  return clusters;
}

async function dropNewClusters(before: Set<string>): Promise<void> {
  for (const cluster of await postgresClusters()) {
    if (!before.has(cluster)) await runTool(["pg_dropcluster", "--stop", ...cluster.split(" ")]);
  }
}
