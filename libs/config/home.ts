import { join, resolve } from "@std/path";
import { TorporError } from "@torpor/errors";

/** Unix socket paths end at 107 bytes; the longest one below the data directory has 54. */
const MAX_HOME_BYTES = 50;

/** Every path of one data directory (`$TORPOR_HOME`) that more than one service knows. */
export interface HomePaths {
  home: string;
  /** Built images, native code, npm packages: can be deleted, is made again. */
  cache: string;
  /** Unix sockets and pid files of the services. */
  run: string;
  logs: string;
  /** PostgreSQL's cluster and its socket directory. */
  database: string;
  /** Compiled C code: libtorpor.so, torpor-pager, torpor-base-pager, torpor-shim.so. */
  native: string;
  /** Guest kernel, initramfs and base images, described by `images.json`. */
  images: string;
  /** Shared token of the services, mode 0600. */
  internalToken: string;
  /** The first API key, mode 0600. */
  apiKey: string;
}

/**
 * The data directory: `$TORPOR_HOME`, else /var/lib/torpor for root and ~/.local/share/torpor for others.
 * @throws TorporError `config_invalid` when the path is too long for the unix sockets below it.
 */
export function torporHome(env: { get(name: string): string | undefined } = Deno.env): string {
  const home = env.get("TORPOR_HOME") || defaultHome(env);
  const absolute = resolve(home);
  if (new TextEncoder().encode(absolute).length > MAX_HOME_BYTES) {
    throw new TorporError("config_invalid", `TORPOR_HOME is longer than ${MAX_HOME_BYTES} bytes: ${absolute}`, {
      field: "TORPOR_HOME",
      hint: "unix socket paths are limited to 107 bytes; choose a shorter directory",
    });
  }
  return absolute;
}

function defaultHome(env: { get(name: string): string | undefined }): string {
  if (Deno.uid() === 0) return "/var/lib/torpor";
  const home = env.get("HOME");
  if (!home) throw new TorporError("config_invalid", "neither TORPOR_HOME nor HOME is set", { field: "TORPOR_HOME" });
  return join(home, ".local/share/torpor");
}

/** The paths below `home`. `$TORPOR_CACHE` moves the cache, so that several data directories can share one. */
export function homePaths(home: string, cache = Deno.env.get("TORPOR_CACHE") || join(home, "cache")): HomePaths {
  return {
    home,
    cache,
    run: join(home, "run"),
    logs: join(home, "logs"),
    database: join(home, "database"),
    native: join(cache, "native"),
    images: cache,
    internalToken: join(home, "internal-token"),
    apiKey: join(home, "api-key"),
  };
}
