import { startHost } from "./host.ts";

const CAPS = { fstrimMs: 5_000, syncMs: 5_000, dropCachesMs: 5_000, compactMemoryMs: 3_000 };
const FILES_MB = 96;

/** What a pause stores after the guest has read and written files: with reclaim before it by without. */
export async function benchReclaim(): Promise<Record<string, number>> {
  await using host = await startHost();
  const stored = async (reclaim: typeof CAPS | undefined) => {
    const sandboxId = await host.create({ memoryMb: 512 });
    await host.run(sandboxId, `head -c ${FILES_MB}M /dev/urandom > /root/file; sync; cat /root/file > /dev/null`);
    const { snapshot } = await host.client.pauseSandbox({ sandboxId, reclaim });
    await host.client.destroySandbox({ sandboxId });
    return Number(snapshot!.memoryBytes);
  };
  const without = await stored(undefined);
  return { reclaim_bytes_over_without: await stored(CAPS) / without };
}
