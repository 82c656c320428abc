import { TorporError } from "@torpor/errors";
import type { Caller } from "./caller.ts";

/** @throws TorporError `permission_denied` for everybody but the administrator of the deployment. */
export function requireAdmin({ admin }: Caller, message: string): void {
  if (admin) return;
  throw new TorporError("permission_denied", message, { hint: "use the deployment's internal token as the key" });
}
