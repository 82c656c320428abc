/**
 * postgres.js 3.4.9 with the changes that README.md lists: connections that are lost at any moment end in errors of their
 * queries, and in nothing else. Used through `@torpor/db`.
 */
// @ts-types="npm:postgres@3.4.9"
export { default } from "./src/index.js";
