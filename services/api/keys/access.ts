/** What a key can be given. `*`: everything that its team may, also what is added later. */
export const SCOPES = [
  "sandbox:read",
  "sandbox:write",
  "sandbox:exec",
  "snapshot:read",
  "snapshot:write",
  "webhook:admin",
  "team:read",
  "keys:admin",
  "*",
] as const;

/** One of {@linkcode SCOPES}. */
export type Scope = typeof SCOPES[number];

/** What a call is, on both surfaces. */
export interface Access {
  /** Its name in the audit log. */
  action: string;
  /** The scope that a key needs for it; "admin": only the deployment's internal token opens it. */
  scope: Scope | "admin";
  /** true: it goes into the audit log. */
  changes: boolean;
}

type Rules = Record<string, readonly [scope: Scope | "admin", ...calls: string[]]>;

// A call is `METHOD /path/of/{the}/route` or `Service/Method`. One that is in no table is refused but for keys with `*`,
// and the test of this file fails.

const READS: Rules = {
  "sandbox.get": ["sandbox:read", "GET /v1/sandboxes/{sandbox_id}", "SandboxService/GetSandbox"],
  "sandbox.list": ["sandbox:read", "GET /v1/sandboxes", "SandboxService/ListSandboxes"],
  "sandbox.memory": ["sandbox:read", "GET /v1/sandboxes/{sandbox_id}/memory", "SandboxService/GetMemoryStats"],
  "sandbox.inspect": ["sandbox:read", "GET /v1/sandboxes/{sandbox_id}/snapshot", "SandboxService/InspectSandbox"],
  // It only starts the idle timer again, as any command does.
  "sandbox.ping": ["sandbox:write", "POST /v1/sandboxes/{sandbox_id}/ping", "SandboxService/PingSandbox"],
  "operation.get": ["sandbox:read", "GET /v1/operations/{operation_id}", "OperationService/GetOperation"],
  "operation.watch": [
    "sandbox:read",
    "GET /v1/operations/{operation_id}/events",
    "OperationService/WatchOperation",
  ],
  "operation.list": ["sandbox:read", "GET /v1/sandboxes/{sandbox_id}/operations", "OperationService/ListOperations"],
  "trace.get": ["sandbox:read", "GET /v1/traces/{trace_id}", "TraceService/GetTrace"],
  "trace.list": ["sandbox:read", "GET /v1/traces", "TraceService/ListTraces"],
  "status.get": ["sandbox:read", "GET /v1/status"],
  "host.list": ["sandbox:read", "GET /v1/hosts", "HostService/ListHosts"],
  "host.get": ["sandbox:read", "GET /v1/hosts/{host}"],
  "process.list": ["sandbox:exec", "GET /v1/sandboxes/{sandbox_id}/processes", "SandboxService/ListProcesses"],
  "process.events": [
    "sandbox:exec",
    "GET /v1/sandboxes/{sandbox_id}/processes/{pid}/events",
    "SandboxService/AttachProcess",
  ],
  "file.read": [
    "sandbox:exec",
    "GET /v1/sandboxes/{sandbox_id}/files",
    "SandboxService/ReadFile",
    "SandboxService/ReadFileStream",
  ],
  "file.stat": ["sandbox:exec", "GET /v1/sandboxes/{sandbox_id}/files/stat", "SandboxService/StatFile"],
  "file.list": ["sandbox:exec", "GET /v1/sandboxes/{sandbox_id}/files/list", "SandboxService/ListDirectory"],
  "snapshot.get": ["snapshot:read", "GET /v1/snapshots/{snapshot}", "SnapshotService/GetSnapshot"],
  "snapshot.list": ["snapshot:read", "GET /v1/snapshots", "SnapshotService/ListSnapshots"],
  "snapshot.inspect": ["snapshot:read", "GET /v1/snapshots/{snapshot}/contents", "SnapshotService/InspectSnapshot"],
  "webhook.list": ["webhook:admin", "GET /v1/webhooks", "WebhookService/ListWebhooks"],
  "webhook.get": ["webhook:admin", "GET /v1/webhooks/{webhook_id}", "WebhookService/GetWebhook"],
  "webhook.deliveries": [
    "webhook:admin",
    "GET /v1/webhooks/{webhook_id}/deliveries",
    "WebhookService/ListWebhookDeliveries",
  ],
  "team.get": ["team:read", "GET /v1/teams/{team_id}", "TeamService/GetTeam"],
  "team.list": ["team:read", "GET /v1/teams", "TeamService/ListTeams"],
  "usage.get": ["team:read", "GET /v1/usage", "TeamService/GetUsage"],
  "audit.list": ["team:read", "GET /v1/audit", "AuditService/ListAuditEntries"],
  "api_key.list": ["keys:admin", "GET /v1/api-keys", "ApiKeyService/ListApiKeys"],
};

const CHANGES: Rules = {
  "sandbox.create": ["sandbox:write", "POST /v1/sandboxes", "SandboxService/CreateSandbox"],
  "sandbox.delete": ["sandbox:write", "DELETE /v1/sandboxes/{sandbox_id}", "SandboxService/DeleteSandbox"],
  "sandbox.pause": [
    "sandbox:write",
    "POST /v1/sandboxes/{sandbox_id}/pause",
    "POST /v1/sandboxes/{sandbox_id}/sleep",
    "SandboxService/PauseSandbox",
  ],
  "sandbox.resume": [
    "sandbox:write",
    "POST /v1/sandboxes/{sandbox_id}/resume",
    "POST /v1/sandboxes/{sandbox_id}/wake",
    "SandboxService/ResumeSandbox",
  ],
  "sandbox.network": ["sandbox:write", "PUT /v1/sandboxes/{sandbox_id}/network", "SandboxService/UpdateNetwork"],
  "port.connect": ["sandbox:exec", "POST /v1/sandboxes/{sandbox_id}/ports/{port}"],
  "sandbox.fork": ["sandbox:write", "POST /v1/sandboxes/{sandbox_id}/fork", "SandboxService/ForkSandbox"],
  "sandbox.checkpoint": [
    "snapshot:write",
    "POST /v1/sandboxes/{sandbox_id}/checkpoint",
    "SandboxService/CheckpointSandbox",
  ],
  "process.exec": [
    "sandbox:exec",
    "POST /v1/sandboxes/{sandbox_id}/exec",
    "POST /v1/sandboxes/{sandbox_id}/exec/stream",
    "SandboxService/Exec",
    "SandboxService/ExecStream",
  ],
  "process.stdin": [
    "sandbox:exec",
    "POST /v1/sandboxes/{sandbox_id}/processes/{pid}/stdin",
    "SandboxService/SendProcessInput",
  ],
  "process.signal": [
    "sandbox:exec",
    "POST /v1/sandboxes/{sandbox_id}/processes/{pid}/signal",
    "SandboxService/SignalProcess",
  ],
  "file.write": [
    "sandbox:exec",
    "PUT /v1/sandboxes/{sandbox_id}/files",
    "SandboxService/WriteFile",
    "SandboxService/WriteFileStream",
  ],
  "file.mkdir": ["sandbox:exec", "POST /v1/sandboxes/{sandbox_id}/files/mkdir", "SandboxService/MakeDirectory"],
  "file.remove": ["sandbox:exec", "DELETE /v1/sandboxes/{sandbox_id}/files", "SandboxService/RemoveFile"],
  "snapshot.create": ["snapshot:write", "POST /v1/snapshots", "SnapshotService/CreateSnapshot"],
  "snapshot.update": ["snapshot:write", "PATCH /v1/snapshots/{snapshot}", "SnapshotService/UpdateSnapshot"],
  "snapshot.delete": ["snapshot:write", "DELETE /v1/snapshots/{snapshot}", "SnapshotService/DeleteSnapshot"],
  "webhook.create": ["webhook:admin", "POST /v1/webhooks", "WebhookService/CreateWebhook"],
  "webhook.update": ["webhook:admin", "PATCH /v1/webhooks/{webhook_id}", "WebhookService/UpdateWebhook"],
  "webhook.delete": ["webhook:admin", "DELETE /v1/webhooks/{webhook_id}", "WebhookService/DeleteWebhook"],
  "webhook.rotate": ["webhook:admin", "POST /v1/webhooks/{webhook_id}/rotate", "WebhookService/RotateWebhookSecret"],
  "webhook.test": ["webhook:admin", "POST /v1/webhooks/{webhook_id}/test", "WebhookService/TestWebhook"],
  "webhook.retry": [
    "webhook:admin",
    "POST /v1/webhooks/{webhook_id}/deliveries/{event_id}/retry",
    "WebhookService/RetryWebhookDelivery",
  ],
  "snapshot.collect": ["admin", "POST /v1/snapshots/collect", "SnapshotService/CollectSnapshots"],
  "host_token.create": ["admin", "POST /v1/host-tokens"],
  "host.cordon": ["admin", "POST /v1/hosts/{host}/cordon"],
  "host.uncordon": ["admin", "POST /v1/hosts/{host}/uncordon"],
  "host.drain": ["admin", "POST /v1/hosts/{host}/drain"],
  "host.remove": ["admin", "DELETE /v1/hosts/{host}"],
  "team.create": ["admin", "POST /v1/teams", "TeamService/CreateTeam"],
  "team.update": ["admin", "PATCH /v1/teams/{team_id}", "TeamService/UpdateTeam"],
  "team.delete": ["admin", "DELETE /v1/teams/{team_id}", "TeamService/DeleteTeam"],
  "api_key.create": ["keys:admin", "POST /v1/api-keys", "ApiKeyService/CreateApiKey"],
  "api_key.revoke": ["keys:admin", "DELETE /v1/api-keys/{key_id}", "ApiKeyService/RevokeApiKey"],
};

function table(rules: Rules, changes: boolean): [string, Access][] {
  return Object.entries(rules).flatMap(([action, [scope, ...calls]]) =>
    calls.map((call): [string, Access] => [call, { action, scope, changes }])
  );
}

/** All calls of both surfaces: the one place that says what each needs. */
export const ACCESS: ReadonlyMap<string, Access> = new Map([...table(READS, false), ...table(CHANGES, true)]);

/** What a call needs. One that is in no table needs everything, and is kept in the audit log unless it is a GET. */
export function accessOf(call: string): Access {
  return ACCESS.get(call) ?? { action: call, scope: "*", changes: !call.startsWith("GET ") };
}

/** True when scopes of a key include this one. */
export function includesScope(scopes: readonly string[], scope: string): boolean {
  return scopes.includes(scope) || (scope !== "admin" && scopes.includes("*"));
}
