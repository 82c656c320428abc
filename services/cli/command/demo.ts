import { join } from "@std/path";
import { REPOSITORY } from "../deployment/repository.ts";
import { telemetryEnvironment } from "../deployment/services.ts";
import { bringUp } from "../deployment/up.ts";
import { Progress } from "../terminal/progress.ts";
import { defineAction } from "./define.ts";

/** `torpor demo` */
export const demo = defineAction({
  name: "demo",
  description: "Set everything up, then let a sandbox sleep and wake, and show that nothing was lost",
  args: { keep: { type: "boolean", description: "Do not delete the sandbox at the end" } },
  async run({ args }) {
    const { deployment } = await bringUp(new Progress());
    const run = ["run", "--quiet", "--frozen", "--allow-all", "--config", join(REPOSITORY, "deno.json")];
    const options = [...(args.json ? ["--json"] : []), ...(args.keep ? ["--keep"] : [])];
    const child = new Deno.Command(Deno.execPath(), {
      args: [...run, join(REPOSITORY, "services/cli/lifecycle/main.ts"), ...options],
      env: {
        ...telemetryEnvironment(deployment, "cli"),
        // It is over before metrics of it would say anything.
        OTEL_METRICS_EXPORTER: "none",
        TORPOR_URL: deployment.apiUrl,
      },
    }).spawn();
    // An interrupt reaches the child, too; it deletes its sandbox before it ends.
    const waitForChild = () => {};
    Deno.addSignalListener("SIGINT", waitForChild);
    const { code } = await child.status;
    Deno.removeSignalListener("SIGINT", waitForChild);
    return code;
  },
});
