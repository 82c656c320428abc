import type { Database } from "@torpor/db";
import type { HostClient, Lifecycle } from "@torpor/lifecycle";
import { FakeHost } from "@torpor/testing/fake_host";
import { ControlPlane, type RunningReconciler, TOKEN } from "../../integration/control/control_plane.ts";
import { HOSTS, LIFECYCLES } from "./action.ts";

/** More than any history can use. */
const CAPACITY = { vcpus: 1_000, memoryMb: 10_000_000n, diskMb: 10_000_000n };

/** Real PostgreSQL, scheduler, reconciler and several lifecycles, before several fake hosts. */
export class ModelPlane implements AsyncDisposable {
  private constructor(
    private readonly stack: AsyncDisposableStack,
    private readonly plane: ControlPlane,
    private readonly reconciler: RunningReconciler,
    readonly hosts: readonly FakeHost[],
    /** As of that many processes. */
    readonly lifecycles: readonly Lifecycle[],
  ) {}

  /** Starts all of it in this process. */
  static async start(): Promise<ModelPlane> {
    await using stack = new AsyncDisposableStack();
    const plane = stack.use(await ControlPlane.start(CAPACITY));
    const hosts = [plane.host];
    while (hosts.length < HOSTS) {
      const host = stack.use(await FakeHost.start(TOKEN));
      const name = `fake-${hosts.push(host)}`;
      await plane.scheduler.registerHost({ hostId: host.hostId, name, address: host.address, capacity: CAPACITY });
    }
    const lifecycles = [plane.lifecycle];
    while (lifecycles.length < LIFECYCLES) lifecycles.push(stack.use(plane.openLifecycle()));
    const reconciler = stack.use(await plane.startReconciler());
    return new ModelPlane(stack.move(), plane, reconciler, hosts, lifecycles);
  }

  get database(): Database {
    return this.plane.database;
  }

  /** The client of a host, as services have it. */
  clientOf(host: FakeHost): HostClient {
    return this.plane.hosts.at(host.address);
  }

  /** Runs one pass and returns its repairs. */
  pass(): Promise<string[]> {
    return this.reconciler.pass();
  }

  /** What a failed history has left behind must not spoil the next one. */
  async startOver(): Promise<void> {
    for (const host of this.hosts) host.reset();
    await this.database.sql`delete from reservations`;
    await this.database.sql`truncate sandboxes, snapshots cascade`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stack.disposeAsync();
  }
}
