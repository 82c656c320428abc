/**
 * postgres.js 3.4.9 with the changes of repairs.ts: connections that are lost at any moment end in errors of their
 * queries, and in nothing else. `build/` is made from the npm package by repair.ts. Used through `@torpor/db`.
 */
// @ts-types="npm:postgres@3.4.9"
export { default } from "./build/index.js";
