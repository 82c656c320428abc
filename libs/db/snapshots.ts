/** A committed snapshot of a sandbox, as its host described it. Pages are 4,096 bytes. */
export interface SnapshotRow {
  id: string;
  /** 1 for the first pause, then one more with each. */
  generation: number;
  /** Bytes this generation stores: memory, disk and device state. */
  sizeBytes: bigint;
  memoryBytes: bigint;
  diskBytes: bigint;
  pagesResident: bigint;
  pagesDirty: bigint;
  pagesData: bigint;
  createdAt: Date;
}

/** The columns of `sandboxes` that hold its newest snapshot: all null before the first pause. */
export interface SnapshotColumns {
  snapshotId: string | null;
  snapshotGeneration: number | null;
  snapshotSizeBytes: bigint | null;
  snapshotMemoryBytes: bigint | null;
  snapshotDiskBytes: bigint | null;
  snapshotPagesResident: bigint | null;
  snapshotPagesDirty: bigint | null;
  snapshotPagesData: bigint | null;
  snapshotCreatedAt: Date | null;
}

/** The snapshot in a row's columns, or null. */
export function snapshotOf(columns: SnapshotColumns): SnapshotRow | null {
  if (columns.snapshotId === null) return null;
  // The constraint sandbox_snapshot_complete: all nine are set or none.
  return {
    id: columns.snapshotId,
    generation: columns.snapshotGeneration!,
    sizeBytes: columns.snapshotSizeBytes!,
    memoryBytes: columns.snapshotMemoryBytes!,
    diskBytes: columns.snapshotDiskBytes!,
    pagesResident: columns.snapshotPagesResident!,
    pagesDirty: columns.snapshotPagesDirty!,
    pagesData: columns.snapshotPagesData!,
    createdAt: columns.snapshotCreatedAt!,
  };
}
