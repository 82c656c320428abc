import { join } from "@std/path";
import { homePaths } from "@torpor/config";
import { requireId } from "@torpor/ids";

/** Everything that one sandbox has on disk while it exists. Socket paths stay below 107 bytes (see libs/config). */
export interface SandboxPaths {
  directory: string;
  record: string;
  /** The record while a VM runs; not synced. */
  runningRecord: string;
  /** The writable disk of the running VM; gone while the sandbox is paused. */
  disk: string;
  qmpSocket: string;
  agentSocket: string;
  consoleSocket: string;
  consoleLog: string;
  vmmLog: string;
  pagerLog: string;
  /** Answers questions about the pager: ffi/README.md. */
  pagerSocket: string;
}

/** The files of one snapshot, committed or staged. */
export interface SnapshotPaths {
  directory: string;
  manifest: string;
  /** The manifest of a kept snapshot that was deleted while a VM runs that was resumed from it. */
  deletedManifest: string;
  state: string;
  memoryHeader: string;
  memoryData: string;
  /** What `memory.data` is called by its content; missing until somebody has read it. */
  memoryHash: string;
  /** Pages to fetch ahead at a resume; may be missing. */
  workingSet: string;
  /** One that is being written, or that an agent has left that was killed. */
  newWorkingSet: string;
  /** The whole disk; absent when it is stored as a difference. */
  disk: string;
  /** Checksums of the whole disk; missing until somebody has read it. */
  diskSums: string;
  /** The same as `memoryHash`, of `disk.raw` or `disk.data`. */
  diskHash: string;
  /** The disk as a difference: its extent table, and what it stores itself. */
  diskHeader: string;
  diskData: string;
  /** What is known of data whose snapshot is gone. */
  origin: string;
}

/** All paths of a host agent. No other module joins paths below the data directory. */
export class Layout {
  readonly home: string;
  readonly cache: string;
  readonly images: string;
  readonly hostId: string;
  /** The host's certificate and key, where hosts speak TLS. */
  readonly certificate: string;
  readonly sandboxes: string;
  readonly snapshots: string;
  readonly staging: string;
  /** VMMs that have started before a sandbox needs them. */
  readonly spares: string;
  /** Messages of the processes that siblings share. */
  readonly bases: string;
  readonly accelerator: string;
  /** How far the verification of snapshots is, and what it has found. */
  readonly verification: string;
  /** The egress proxy's process: its control socket, its identity, its log. */
  readonly egress: string;

  /** @param home the data directory, @param cache where built images are; both absolute. */
  constructor(home: string, cache?: string) {
    const paths = homePaths(home, cache);
    this.home = home;
    this.cache = paths.cache;
    this.images = join(paths.images, "images.json");
    this.accelerator = join(paths.cache, "accelerator.json");
    this.hostId = join(home, "host-id");
    this.certificate = join(home, "host-certificate.json");
    this.verification = join(home, "verification.json");
    this.egress = join(home, "egress");
    this.sandboxes = join(home, "sandboxes");
    this.snapshots = join(home, "snapshots");
    this.staging = join(home, "staging");
    this.spares = join(home, "spares");
    this.bases = join(home, "bases");
  }

  /** @throws TorporError `invalid_argument` when `sandboxId` is no id: it must never become another directory. */
  sandbox(sandboxId: string): SandboxPaths {
    return sandboxPaths(join(this.sandboxes, requireId(sandboxId, "sandbox_id")));
  }

  /** The files of a spare VMM, named as they will be in its sandbox. @throws TorporError `invalid_argument`. */
  spare(spareId: string): SandboxPaths {
    return sandboxPaths(join(this.spares, requireId(spareId, "spare_id")));
  }

  /** @throws TorporError `invalid_argument` when `snapshotId` is no id. */
  snapshot(snapshotId: string): SnapshotPaths {
    return snapshotPaths(join(this.snapshots, requireId(snapshotId, "snapshot_id")));
  }

  /** The working set of guests that were booted alike. @param shape letters, digits and "-". */
  workingSet(shape: string): string {
    return join(this.cache, "working-sets", shape);
  }

  /** What the base pager of a snapshot had to say. */
  baseLog(snapshotId: string): string {
    return join(this.bases, `${requireId(snapshotId, "snapshot_id")}.log`);
  }

  /** Answers questions about a base pager. @param mark of the base. */
  baseSocket(mark: string): string {
    return join(this.bases, `${requireId(mark, "mark")}.sock`);
  }

  /** Where a snapshot is written until it is committed by a rename. */
  staged(snapshotId: string): SnapshotPaths {
    return snapshotPaths(join(this.staging, requireId(snapshotId, "snapshot_id")));
  }
}

function sandboxPaths(directory: string): SandboxPaths {
  return {
    directory,
    record: join(directory, "sandbox.json"),
    runningRecord: join(directory, "running.json"),
    disk: join(directory, "disk.raw"),
    qmpSocket: join(directory, "qmp.sock"),
    agentSocket: join(directory, "agent.sock"),
    consoleSocket: join(directory, "console.sock"),
    consoleLog: join(directory, "console.log"),
    vmmLog: join(directory, "vmm.log"),
    pagerLog: join(directory, "pager.log"),
    pagerSocket: join(directory, "pager.sock"),
  };
}

function snapshotPaths(directory: string): SnapshotPaths {
  return {
    directory,
    manifest: join(directory, "manifest.json"),
    deletedManifest: join(directory, "manifest.deleted.json"),
    state: join(directory, "state"),
    memoryHeader: join(directory, "memory.header"),
    memoryData: join(directory, "memory.data"),
    memoryHash: join(directory, "memory.hash"),
    workingSet: join(directory, "working-set"),
    newWorkingSet: join(directory, "working-set.new"),
    disk: join(directory, "disk.raw"),
    diskSums: join(directory, "disk.sums"),
    diskHash: join(directory, "disk.hash"),
    diskHeader: join(directory, "disk.header"),
    diskData: join(directory, "disk.data"),
    origin: join(directory, "origin.json"),
  };
}
