import { MAX_HOSTS } from "../deployment/host_network.ts";
import { bringUp } from "../deployment/up.ts";
import { Progress } from "../terminal/progress.ts";
import { paintFor } from "../terminal/paint.ts";
import { defineAction, integerOption } from "./define.ts";
import { printJson } from "./print.ts";

/** `torpor up` */
export const up = defineAction({
  name: "up",
  description: "Install what is missing, build, and start PostgreSQL and the four services",
  args: {
    port: { type: "string", description: "TCP port of the API (default: 7070 when it is free)", valueHint: "number" },
    hosts: {
      type: "string",
      description: "Play this many hosts, each in a network namespace of its own, over mutual TLS; 0: one, without",
      valueHint: "number",
    },
  },
  async run({ args }) {
    const progress = new Progress();
    const { deployment, services } = await bringUp(progress, {
      port: integerOption(args.port, "--port", 1, 65535),
      hosts: integerOption(args.hosts, "--hosts", 0, MAX_HOSTS),
    });
    const { apiUrl, paths } = deployment;
    if (args.json) {
      return printJson({ api_url: apiUrl, api_key_file: paths.apiKey, home: paths.home, cache: paths.cache, services });
    }
    const paint = paintFor(Deno.stdout);
    const started = services.filter((service) => service.started).map((service) => service.name);
    console.log(started.length > 0 ? `Started ${started.join(", ")}.` : "Everything runs already.");
    console.log(`
  API        ${paint("cyan", apiUrl)}  (REST /v1, ConnectRPC torpor.v1)
  Browse it  ${paint("cyan", `${apiUrl}/docs`)}
  API key    in ${paths.apiKey}
  Logs       in ${paths.logs}

Next: ./torpor demo · ./torpor sandbox create · ./torpor status · ./torpor down`);
  },
});
