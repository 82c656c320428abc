import { existsSync } from "@std/fs";
import { join } from "@std/path";

/** The services of a deployment, each a process of its own. */
export const SERVICES = ["scheduler", "hostagent", "reconciler", "api"] as const;

/** One of {@linkcode SERVICES}. */
export type ServiceName = typeof SERVICES[number];

/** What a case kills: a service, or a process that the host agent has started for a sandbox. */
export type Victim = ServiceName | "pager" | "vmm";

/** Where and whom to kill. */
export interface CrashPoint {
  /** The service that reaches the point. */
  service: ServiceName;
  /** The name of a span: each journalled step is one. */
  span: string;
  /** Before the step's work, or after its work has succeeded and before anybody knows of it. */
  phase: "begin" | "end";
  victim: Victim;
}

/** Files by which a test and the services of a deployment agree where a process dies. */
export class CrashFiles {
  readonly #armed: string;
  readonly #fired: string;

  /** @param directory of the deployment. */
  constructor(private readonly directory: string) {
    this.#armed = join(directory, "crash-armed.json");
    this.#fired = join(directory, "crash-fired.json");
  }

  /** From now on whoever reaches the point kills the victim, once. */
  async arm(point: CrashPoint): Promise<void> {
    await this.disarm();
    await Deno.writeTextFile(`${this.#armed}.new`, JSON.stringify(point));
    await Deno.rename(`${this.#armed}.new`, this.#armed);
  }

  /** Forgets the point. @returns whether it was reached. */
  async disarm(): Promise<boolean> {
    const [, fired] = await Promise.all([this.#armed, this.#fired].map((path) => removed(path)));
    return fired!;
  }

  /** Whether the point was reached. */
  fired(): boolean {
    return existsSync(this.#fired);
  }

  /** The point that is armed, when `service` is the one to reach it. */
  armedFor(service: ServiceName): CrashPoint | undefined {
    try {
      const point = JSON.parse(Deno.readTextFileSync(this.#armed)) as CrashPoint;
      return point.service === service ? point : undefined;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
  }

  /** @returns true for the one that reaches the point first. */
  claim(): boolean {
    try {
      Deno.renameSync(this.#armed, this.#fired);
      return true;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return false;
      throw error;
    }
  }

  /** Where a service writes its pid. */
  pidFile(service: ServiceName): string {
    return join(this.directory, `${service}.pid`);
  }
}

async function removed(path: string): Promise<boolean> {
  try {
    await Deno.remove(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
