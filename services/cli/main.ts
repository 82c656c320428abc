import { main } from "./command/main.ts";

await main(Deno.args);
// A read of stdin that nobody needs any more would keep the program alive.
Deno.exit();
