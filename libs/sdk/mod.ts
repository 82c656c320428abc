/** The client of Torpor: sandboxes that sleep and wake. */
export { Connection, type ConnectionOptions } from "./connection.ts";
export { type Content, type FileOptions, Files, type WriteOptions } from "./files.ts";
export { type AttachOptions, Process, type ProcessOutput, type ProcessResult } from "./process.ts";
export { type CreateOptions, type ExecOptions, type ExecResult, type ListOptions, Sandbox } from "./sandbox.ts";
export { type ErrorCode, TorporError } from "@torpor/errors";
export { type FileInfo, type Sandbox as SandboxInfo, SandboxState, type Snapshot } from "@torpor/proto/torpor";
