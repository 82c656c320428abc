/** Builds the npm package of the client: `deno task sdk`, or `… build.ts DIRECTORY`. */
import { dirname, fromFileUrl, join, relative } from "@std/path";
import { compile } from "./compile.ts";

const REPOSITORY = fromFileUrl(new URL("../../../", import.meta.url));

/** What the package contains, and where: it must not need the workspace. */
const SOURCES: Record<string, string> = {
  "libs/sdk/mod.ts": "mod.ts",
  "libs/sdk/connection.ts": "connection.ts",
  "libs/sdk/environment.ts": "environment.ts",
  "libs/sdk/files.ts": "files.ts",
  "libs/sdk/follow_process.ts": "follow_process.ts",
  "libs/sdk/process.ts": "process.ts",
  "libs/sdk/rest_error.ts": "rest_error.ts",
  "libs/sdk/sandbox.ts": "sandbox.ts",
  "libs/errors/torpor_error.ts": "torpor_error.ts",
  "libs/rpc/abortable_body.ts": "abortable_body.ts",
  "libs/rpc/call_error.ts": "call_error.ts",
  "proto/gen/torpor/v1/sandbox_pb.ts": "contract.ts",
};

/** Members of the workspace, and the files of the package that take their place. */
const MEMBERS: Record<string, string> = {
  "@torpor/errors": "./torpor_error.ts",
  "@torpor/rpc/abortable_body": "./abortable_body.ts",
  "@torpor/rpc/call_error": "./call_error.ts",
  "@torpor/proto/torpor": "./contract.ts",
};

const DEPENDENCIES = ["@bufbuild/protobuf", "@connectrpc/connect", "@connectrpc/connect-web", "zod"];

/**
 * Builds the package into `directory`, which is made anew: package.json, README.md, LICENSE, ES modules with types.
 * @throws Error when the sources do not fit together.
 */
export async function buildPackage(directory: string): Promise<void> {
  await Deno.remove(directory, { recursive: true }).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
  const sources = join(directory, "src");
  await Deno.mkdir(sources, { recursive: true });
  for (const [from, to] of Object.entries(SOURCES)) {
    const text = await Deno.readTextFile(join(REPOSITORY, from));
    await Deno.writeTextFile(join(sources, to), withoutWorkspace(text));
  }
  await compile(sources, join(directory, "dist"));
  await Deno.writeTextFile(join(directory, "package.json"), JSON.stringify(await manifest(), undefined, 2) + "\n");
  for (const file of ["LICENSE", "libs/sdk/npm/README.md"]) {
    await Deno.copyFile(join(REPOSITORY, file), join(directory, relative(dirname(file), file)));
  }
}

function withoutWorkspace(text: string): string {
  return text.replaceAll(/(?<=from ")@torpor\/[^"]+(?=")/g, (name) => {
    const file = MEMBERS[name];
    if (file === undefined) throw new Error(`the package has no place for ${name}`);
    return file;
  });
}

async function manifest() {
  const { imports } = JSON.parse(await Deno.readTextFile(join(REPOSITORY, "deno.json")));
  const { version } = JSON.parse(await Deno.readTextFile(join(REPOSITORY, "libs/sdk/deno.json")));
  const versionOf = (name: string) => `^${(imports[name] as string).split("@").at(-1)}`;
  return {
    name: "@torpor/sdk",
    version,
    description: "Client of Torpor: self-hosted microVM sandboxes that sleep and wake",
    license: "Apache-2.0",
    type: "module",
    engines: { node: ">=20" },
    exports: { ".": { types: "./dist/mod.d.ts", default: "./dist/mod.js" } },
    files: ["dist", "src"],
    sideEffects: false,
    dependencies: Object.fromEntries(DEPENDENCIES.map((name) => [name, versionOf(name)])),
  };
}

if (import.meta.main) await buildPackage(Deno.args[0] ?? join(REPOSITORY, "libs/sdk/build"));
