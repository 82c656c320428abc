import { startTestHostAgent, type TestHostAgent, type TestHostAgentOptions } from "@torpor/testing/hostagent";

/** A host agent in this process, for what the api does not offer: other settings, times inside of a host. */
export async function startHost(overrides: TestHostAgentOptions["overrides"] = {}): Promise<TestHostAgent> {
  return await startTestHostAgent({ overrides });
}

/** Bytes of random data in a guest's memory, in a file that later commands can read. */
export async function fillMemory(host: TestHostAgent, sandboxId: string, megabytes: number): Promise<void> {
  await host.run(sandboxId, `mount -o remount,size=90% /dev/shm; head -c ${megabytes}M /dev/urandom > /dev/shm/data`);
}
