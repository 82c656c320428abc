import { count } from "@torpor/telemetry";
import { type Manifest, PAGE_BYTES } from "@torpor/snapshot";

/** Counts what a committed snapshot has written, against what had changed. */
export function countSnapshot({ kind, files, pages }: Manifest): void {
  const stored = (part: "memory" | "disk" | "device_state", bytes: number) =>
    count("torpor.snapshot.stored", bytes, { "torpor.snapshot.kind": kind, "torpor.snapshot.part": part });
  stored("memory", files.memory_data.bytes + files.memory_header.bytes);
  stored("disk", files.disk.allocated_bytes);
  stored("device_state", files.state.bytes);
  count("torpor.snapshot.dirty", pages.dirty * PAGE_BYTES, { "torpor.snapshot.kind": kind });
}
