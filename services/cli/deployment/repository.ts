import { fromFileUrl, resolve } from "@std/path";

/** The checkout that this command line runs from. */
export const REPOSITORY = resolve(fromFileUrl(new URL("../../../", import.meta.url)));
