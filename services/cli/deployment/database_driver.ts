import { join } from "@std/path";
import { runTool } from "../tool/run_tool.ts";
import { REPOSITORY } from "./repository.ts";

/** Makes the database driver of the services from the npm package, unless it is there (libs/postgres/README.md). */
export async function buildDatabaseDriver(): Promise<void> {
  const permissions = ["--allow-read", "--allow-write", "--allow-run", "--allow-env"];
  const program = join(REPOSITORY, "libs/postgres/repair.ts");
  await runTool([Deno.execPath(), "run", "--quiet", "--frozen", ...permissions, program]);
}
