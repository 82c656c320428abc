import type { SandboxAccess } from "../sandbox/access.ts";
import type { GuestChannel } from "./channel.ts";

/** A channel in use: until it is disposed, the sandbox counts as active. */
export interface HeldChannel extends AsyncDisposable {
  channel: GuestChannel;
}

/**
 * {@linkcode SandboxAccess.use} for work that outlives one function: streams.
 * @throws TorporError as {@linkcode SandboxAccess.use}.
 */
export async function holdChannel(access: SandboxAccess, sandboxId: string): Promise<HeldChannel> {
  const begun = Promise.withResolvers<GuestChannel>();
  const done = Promise.withResolvers<void>();
  const using = access.use(sandboxId, (channel) => {
    begun.resolve(channel);
    return done.promise;
  });
  using.catch(begun.reject);
  const channel = await begun.promise;
  return {
    channel,
    async [Symbol.asyncDispose]() {
      done.resolve();
      await using;
    },
  };
}
