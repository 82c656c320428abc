// The modules of @std/assert as npm carries them. Where JSR can be reached, delete this folder and import jsr:@std/assert.
// @ts-types="./types.d.ts"
export * from "npm:deno-std@1.4.0/assert/mod.js";
