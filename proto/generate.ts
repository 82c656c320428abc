/** Generates proto/gen from the contracts. The result is checked in, so that running a service needs no generator. */
import { generate, PROTO_DIRECTORY } from "./buf.ts";

await generate(PROTO_DIRECTORY);
