/** Options of every request. */
export interface CallOptions {
  /** Gives the request up; a process goes on, a half-written file is dropped. */
  signal?: AbortSignal;
}

/** Options of a request about files. */
export interface FileOptions extends CallOptions {
  /** A name from the guest's /etc/passwd, with whose rights the file is used. Default "user". */
  user?: string;
}

/** What `GuestChannel.startProcess` starts. */
export interface ProcessSpec {
  /** The program (looked up in PATH) and its arguments. */
  argv: string[];
  environment?: Record<string, string>;
  /** Default: the home directory of the user. */
  workingDirectory?: string;
  user?: string;
  /** true: stdin is a pipe; false: /dev/null. */
  stdin?: boolean;
  /** After this many milliseconds the process group is killed. 0 or absent: never. */
  timeoutMs?: number;
}

/** Caps of `GuestChannel.preparePause`, milliseconds; 0 or absent: that step is left out. */
export interface PauseSteps {
  fstrimMs?: number;
  syncMs?: number;
  dropCachesMs?: number;
  compactMemoryMs?: number;
  freezeMs?: number;
  /** With freezeMs: when the guest thaws by itself, counted by its own clock. */
  watchdogMs?: number;
}
