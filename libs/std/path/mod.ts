// @std/path by Node's path module: the npm package's own path modules carry no types.
// Where JSR can be reached, delete this folder and import jsr:@std/path.
export { basename, dirname, extname, isAbsolute, join, normalize, parse, relative, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

/** The path of a `file:` URL. */
export const fromFileUrl = (url: string | URL): string => fileURLToPath(url);
/** The `file:` URL of an absolute path. */
export const toFileUrl = (path: string): URL => pathToFileURL(path);
