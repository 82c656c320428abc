import { z } from "zod";
import type { DescService } from "@bufbuild/protobuf";
import type { ConnectRouter, ServiceImpl } from "@connectrpc/connect";
import { HostService, OperationService, SandboxService, SnapshotService, TraceService } from "@torpor/proto/torpor";
import { ApiKeyService, AuditService, TeamService } from "@torpor/proto/team";
import { WebhookService } from "@torpor/proto/webhook";
import type { Api } from "../handlers/api.ts";
import { getOperation, listOperations, watchOperation } from "../handlers/operations.ts";
import { listHosts } from "../handlers/hosts.ts";
import { getTrace, listTraces } from "../handlers/traces.ts";
import { MAX_UNARY_FILE_BYTES } from "../inputs/file.ts";
import { parseInput } from "../inputs/parse.ts";
import { traceId, traceLimit } from "../inputs/trace.ts";
import type { Admission } from "../keys/admission.ts";
import { requireId } from "@torpor/ids";
import { answeringOnce } from "./answer_once.ts";
import { audited } from "./audited.ts";
import { execMethods } from "./exec.ts";
import { fileMethods } from "./files.ts";
import { callerOf, gateOptions } from "./gate.ts";
import { hostMessage, operationMessage, spanMessage, traceSummaryMessage } from "./messages.ts";
import { sandboxMethods } from "./sandboxes.ts";
import { snapshotMethods } from "./snapshots.ts";
import { webhookMethods } from "./webhooks.ts";
import { apiKeyMethods, auditMethods, teamMethods } from "./teams.ts";

/** A file of 16 MiB in base64 (the JSON codec), and the rest of its message. */
const MAX_REQUEST_BYTES = Math.ceil(MAX_UNARY_FILE_BYTES * 4 / 3) + 1024 * 1024;

/** Adds the public ConnectRPC services, torpor.v1. They share their handlers with REST. */
export function addConnectServices(router: ConnectRouter, api: Api, admission: Admission): void {
  const gate = gateOptions(admission, MAX_REQUEST_BYTES);
  const add = <Service extends DescService>(service: Service, methods: ServiceImpl<Service>) =>
    router.service(service, audited(answeringOnce(service, methods, api.database)), gate);
  add(SandboxService, { ...sandboxMethods(api), ...execMethods(api), ...fileMethods(api) });
  add(SnapshotService, snapshotMethods(api));
  add(WebhookService, webhookMethods(api));
  add(TeamService, teamMethods(api));
  add(ApiKeyService, apiKeyMethods(api));
  add(AuditService, auditMethods(api));

  add(OperationService, {
    getOperation: async (request, context) => {
      const operationId = requireId(request.operationId, "operation_id");
      return { operation: operationMessage(await getOperation(api, callerOf(context), operationId)) };
    },
    listOperations: async (request, context) => {
      const operations = await listOperations(api, callerOf(context), requireId(request.sandboxId, "sandbox_id"));
      return { operations: operations.map(operationMessage) };
    },
    watchOperation: async function* (request, context) {
      const operationId = requireId(request.operationId, "operation_id");
      for await (const operation of await watchOperation(api, callerOf(context), operationId, context.signal)) {
        yield { operation: operationMessage(operation) };
      }
    },
  });

  add(TraceService, {
    getTrace: async (request, context) => {
      const spans = await getTrace(
        api,
        callerOf(context),
        parseInput(traceIdInput, { trace_id: request.traceId }).trace_id,
      );
      return { spans: spans.map(spanMessage) };
    },
    listTraces: async (request, context) => {
      const { limit } = parseInput(traceListInput, { limit: request.limit || undefined });
      const sandboxId = request.sandboxId === "" ? undefined : requireId(request.sandboxId, "sandbox_id");
      return { traces: (await listTraces(api, callerOf(context), { sandboxId, limit })).map(traceSummaryMessage) };
    },
  });

  add(HostService, {
    listHosts: async () => ({ hosts: (await listHosts(api)).map(hostMessage) }),
  });
}

const traceIdInput = z.object({ trace_id: traceId });
const traceListInput = z.object({ limit: traceLimit });
