import { TorporError } from "@torpor/errors";
import { z } from "zod";
import { readIfPresent, writeDurably } from "../storage/durable_file.ts";

const schema = z.object({
  /** SHA-256 of the registration token that this comes from, hexadecimal. */
  token_hash: z.string(),
  /** PEM, PKCS #8. */
  key: z.string(),
  /** PEM; "" while the host has not been issued one. */
  certificate: z.string(),
  /** PEM. */
  authority: z.string(),
});

/** What a host keeps of its place in a deployment. */
export type HostIdentityFile = z.infer<typeof schema>;

/** Reads it; undefined when there is none. @throws TorporError `config_invalid` when it is damaged. */
export async function readIdentityFile(path: string): Promise<HostIdentityFile | undefined> {
  const text = await readIfPresent(path);
  if (text === undefined) return undefined;
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    throw new TorporError("config_invalid", `${path} is damaged`, {
      hint: "remove it, and give the host a new token in TORPOR_HOST_TOKEN",
      cause,
    });
  }
}

/** Writes it, for this user only. */
export async function writeIdentityFile(path: string, identity: HostIdentityFile): Promise<void> {
  await writeDurably(path, JSON.stringify(identity));
}
