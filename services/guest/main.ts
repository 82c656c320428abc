/** Builds the guest images, or tells where they are. `deno run main.ts --help` lists the commands. */
import { join } from "@std/path";
import { homePaths, torporHome } from "@torpor/config";
import { asTorporError } from "@torpor/errors";
import { buildImages, type ImageSet, locateImages } from "./image/mod.ts";

export * from "./image/mod.ts";

const USAGE = `usage: main.ts build [--cache DIRECTORY]   build what is missing, print the image set as JSON
       main.ts paths [--cache DIRECTORY]   print the image set as JSON; exit code 1 when there is none
The cache directory defaults to that of $TORPOR_HOME.`;

async function main(args: readonly string[]): Promise<number> {
  const [command, option, directory] = args;
  if ((command !== "build" && command !== "paths") || (option !== undefined && (option !== "--cache" || !directory))) {
    console.error(USAGE);
    return command === "--help" ? 0 : 2;
  }
  const cacheDirectory = directory ?? homePaths(torporHome()).images;
  const set = command === "build" ? await build(cacheDirectory) : await locateImages({ cacheDirectory });
  if (!set) {
    console.error(`no images in ${join(cacheDirectory, "images.json")}`);
    return 1;
  }
  console.log(JSON.stringify(set, null, 2));
  return 0;
}

async function build(cacheDirectory: string): Promise<ImageSet> {
  return await buildImages({
    cacheDirectory,
    onProgress: (step, fraction, message) => {
      const percent = fraction === undefined ? "" : ` ${Math.round(fraction * 100)}%`;
      console.error(`${step}${percent}: ${message}`);
    },
  });
}

if (import.meta.main) {
  try {
    Deno.exitCode = await main(Deno.args);
  } catch (error) {
    const { code, message, hint } = asTorporError(error);
    console.error(`${code}: ${message}${hint ? `\n${hint}` : ""}`);
    Deno.exitCode = 1;
  }
}
