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
  /** true: the process waits for a slow reader, and for a while for one that is gone. Default true. */
  holdBack?: boolean;
}

/** Options of `GuestChannel.attachProcess`. */
export interface AttachOptions extends CallOptions {
  /** The last event that was received. Default 0: from the oldest that is kept. */
  afterSequence?: bigint;
  /** When the process was started, by the guest's clock, milliseconds; another start of the same pid is not found. */
  startedUnixMs?: bigint;
  /** As in {@linkcode ProcessSpec}. Default false: the reader gets gaps instead. */
  holdBack?: boolean;
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
