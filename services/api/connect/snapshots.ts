import type { ServiceImpl } from "@connectrpc/connect";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { InspectSnapshotResponse, SnapshotTable } from "@torpor/proto/hostagent";
import type { SnapshotService } from "@torpor/proto/torpor";
import { z } from "zod";
import type { Api } from "../handlers/api.ts";
import {
  collectSnapshots,
  createSnapshot,
  deleteSnapshot,
  inspectSnapshot,
  listSnapshots,
  updateSnapshot,
  visibleSnapshot,
} from "../handlers/snapshots.ts";
import { parseInput } from "../inputs/parse.ts";
import { createSnapshotInput, listSnapshotsInput, snapshotReference, updateSnapshotInput } from "../inputs/snapshot.ts";
import { callerOf } from "./gate.ts";
import { keyOf } from "./idempotency_key.ts";
import { snapshotMessage } from "./messages.ts";

const referenceInput = z.object({ snapshot: snapshotReference });

/** The methods about snapshots that belong to no sandbox. */
export function snapshotMethods(api: Api) {
  return {
    async createSnapshot(request, context) {
      const { sandboxId: sandbox_id, name, platform, expiresInSec: expires_in_sec } = request;
      const input = parseInput(createSnapshotInput, { sandbox_id, name, platform, expires_in_sec });
      const started = await createSnapshot(api, callerOf(context), input, keyOf(request));
      return { snapshot: snapshotMessage(await started.done, callerOf(context)) };
    },

    async getSnapshot(request, context) {
      const snapshot = await visibleSnapshot(api, callerOf(context), referenceOf(request));
      return { snapshot: snapshotMessage(snapshot, callerOf(context)) };
    },

    async listSnapshots(request, context) {
      const input = parseInput(listSnapshotsInput, { limit: request.pageSize || undefined, cursor: request.cursor });
      const page = await listSnapshots(api, callerOf(context), input);
      const snapshots = page.snapshots.map((row) => snapshotMessage(row, callerOf(context)));
      return { snapshots, nextCursor: page.nextCursor };
    },

    async updateSnapshot(request, context) {
      const input = parseInput(updateSnapshotInput, { expires_in_sec: request.expiresInSec });
      const snapshot = await updateSnapshot(api, callerOf(context), referenceOf(request), input);
      return { snapshot: snapshotMessage(snapshot, callerOf(context)) };
    },

    async deleteSnapshot(request, context) {
      return await deleteSnapshot(api, callerOf(context), referenceOf(request));
    },

    async inspectSnapshot(request, context) {
      const contents = await inspectSnapshot(api, callerOf(context), referenceOf(request), request.verify);
      return { contents: contentsMessage(contents) };
    },

    async collectSnapshots(request, context) {
      const hosts = await collectSnapshots(api, callerOf(context), request.dryRun);
      return { hosts: hosts.map((host) => ({ ...host, collected: host.collected.map(withoutType) })) };
    },
  } satisfies Partial<ServiceImpl<typeof SnapshotService>>;
}

function referenceOf({ snapshot }: { snapshot: string }): string {
  return parseInput(referenceInput, { snapshot }).snapshot;
}

/** The host's description in the messages of the public contract. */
export function contentsMessage(contents: InspectSnapshotResponse) {
  const { manifestJson, memory, disk, generations, verified, knownDamage } = contents;
  return {
    manifestJson,
    memory: memory && tableMessage(memory),
    disk: disk && tableMessage(disk),
    generations: generations.map(({ createdAtUnixMs, ...one }) => ({
      ...withoutType(one),
      createdAt: createdAtUnixMs === 0n ? undefined : timestampFromMs(Number(createdAtUnixMs)),
    })),
    verified: verified.map(withoutType),
    knownDamage: knownDamage.map(withoutType),
  };
}

function tableMessage(table: SnapshotTable) {
  return { ...withoutType(table), sources: table.sources.map(withoutType) };
}

/** The fields of a message without what tells its type. */
function withoutType<T extends { $typeName: string; $unknown?: unknown }>(
  message: T,
): Omit<T, "$typeName" | "$unknown"> {
  const { $typeName: _name, $unknown: _unknown, ...fields } = message;
  return fields;
}
