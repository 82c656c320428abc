import { assertEquals } from "@std/assert";
import { MetricsReceiver } from "../../../libs/telemetry/testing/metrics_receiver.ts";

const ROOT = new URL("../../../", import.meta.url).pathname;

/** As short as exporters allow without being busy with it, ms. */
const EXPORT_INTERVAL_MS = 200;

/** A service as a process of its own, which exports its metrics to a receiver of the test. */
export class ServiceProcess implements AsyncDisposable {
  private constructor(private readonly process: Deno.ChildProcess, private readonly log: Promise<string>) {}

  /** Starts `services/<name>` and waits until it listens. */
  static async start(
    name: "api" | "scheduler" | "reconciler" | "hostagent",
    receiver: MetricsReceiver,
    env: Record<string, string>,
  ): Promise<ServiceProcess> {
    const main = `${ROOT}services/${name}/main.ts`;
    const process = new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--no-check", "--config", `${ROOT}deno.json`, "-A", main],
      env: { ...receiver.environment(name, EXPORT_INTERVAL_MS), ...env },
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const listening = Promise.withResolvers<void>();
    const log = readLog(process.stderr, listening.resolve);
    log.then((text) => listening.reject(new Error(`${name} ended: ${text}`)));
    await listening.promise;
    return new ServiceProcess(process, log);
  }

  /** Stops it; what it exports and observes must not have made it complain. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.process.kill("SIGTERM");
    const { code } = await this.process.status;
    // What is no line of the log is Deno's own.
    const isComplaint = (line: string) => !line.startsWith("{") || /metrics_not_observed|pager_not_counted/.test(line);
    const complaints = (await this.log).trim().split("\n").filter(isComplaint);
    assertEquals([code, complaints], [0, []]);
  }
}

async function readLog(stderr: ReadableStream<Uint8Array>, onListening: () => void): Promise<string> {
  let text = "";
  for await (const part of stderr.pipeThrough(new TextDecoderStream())) {
    text += part;
    if (text.includes('"listening"')) onListening();
  }
  return text;
}
