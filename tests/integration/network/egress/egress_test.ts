import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { homePaths } from "@torpor/config";
import { nativeFiles } from "@torpor/ffi";
import { egressProxies } from "../../../../services/cli/deployment/virtual_machines.ts";
import { EGRESS_UID } from "../../../../services/hostagent/network/egress/egress_user.ts";
import { endEgressProxy } from "../../../../services/hostagent/network/egress/mod.ts";
import { testCertificate } from "@torpor/testing/certificate";
import { CONFIG, Lab, OTHER_WEB, WEB } from "../../../../services/hostagent/network/policy/testing/lab.ts";
import type { NetworkPolicy } from "../../../../services/hostagent/network/types.ts";
import { TextLineStream } from "../../../../services/cli/tool/text_lines.ts";
import { Servers } from "../../../security/ground/servers.ts";
import type { AgentSetup } from "./agent.ts";

const NAME = "www.allowed.test";
/** In the internet of the lab: a private network's server, which the host can reach. */
const PRIVATE = "10.20.30.40";
/** A public address of the host itself, where it serves something on port 80. */
const HOST_PUBLIC = "52.10.20.30";

/** A slot with the real rules and the real proxy, whose internet has name and web servers. */
class Ground implements AsyncDisposable {
  readonly #stack = new AsyncDisposableStack();
  /** The data directory. */
  home = "";
  #agent!: { write(line: string): Promise<void>; answer(): Promise<string> };

  private constructor(
    readonly lab: Lab,
    readonly servers: Servers,
    readonly certificate: { cert: string; key: string },
  ) {}

  static async make(): Promise<Ground> {
    await using stack = new AsyncDisposableStack();
    const lab = stack.use(await Lab.make());
    await lab.run("agent", "ip", "address", "add", `${HOST_PUBLIC}/32`, "dev", "lo");
    const certificate = await testCertificate(NAME);
    const inside = (argv: readonly string[]) => ["nsenter", `--net=/run/netns/${lab.namespace("internet")}`, ...argv];
    const servers = stack.use(
      await Servers.start({ inside } as Parameters<typeof Servers.start>[0], {
        certificate,
        tcp: [{ port: 80, speak: "http" }, { port: 443, speak: "https" }],
        udp: [{ port: 53, speak: "dns", addresses: CONFIG.dns }],
      }),
    );
    const ground = new Ground(lab, servers, certificate);
    ground.#stack.use(stack.move());
    await ground.#startAgent();
    return ground;
  }

  async #startAgent(): Promise<void> {
    const { lab } = this;
    const home = this.#stack.adopt(
      await Deno.makeTempDir({ prefix: "eg-" }),
      (path) => Deno.remove(path, { recursive: true }),
    );
    this.home = home;
    const directory = `${home}/egress`;
    this.#stack.defer(() => endEgressProxy(directory));
    const setup: AgentSetup = { config: CONFIG, slot: lab.slots[0]!, directory, library: nativeFiles().library };
    const program = new URL("./agent.ts", import.meta.url).pathname;
    const child = new Deno.Command("nsenter", {
      args: [
        `--net=/run/netns/${lab.namespace("agent")}`,
        Deno.execPath(),
        "run",
        "-A",
        "--no-check",
        program,
        JSON.stringify(setup),
      ],
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const writer = child.stdin.getWriter();
    const lines = child.stdout.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream()).getReader();
    this.#agent = {
      write: (line) => writer.write(new TextEncoder().encode(`${line}\n`)),
      answer: async () => (await lines.read()).value ?? "the agent has ended",
    };
    this.#stack.defer(async () => {
      await writer.close();
      await child.status;
      await lines.cancel();
    });
  }

  /** Lets the guest reach these names and addresses and nothing else. */
  async allow(...allowOut: string[]): Promise<void> {
    const policy: NetworkPolicy = { allowInternetAccess: false, allowOut, denyOut: [] };
    await this.#agent.write(JSON.stringify(policy));
    assertEquals(await this.#agent.answer(), "done");
  }

  /** What a guest is told that asks `address` for `name`. */
  async ask(address: string, protocol: "http" | "https", name: string): Promise<string> {
    const program = new URL("./guest.ts", import.meta.url).pathname;
    const client = [Deno.execPath(), "run", "-A", "--no-check", "--quiet", program, address, protocol, name];
    return await this.lab.run("guest0", ...client, this.certificate.cert);
  }

  /** Addresses that connections have reached. */
  reached(): string[] {
    return this.servers.events.filter(({ kind }) => kind === "connection").map(({ at }) => at!);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

Deno.test("what the proxy's process could be made to do ends at the host's rules", async () => {
  await using ground = await Ground.make();
  await ground.allow(NAME);
  const connect = async (user: number, address: string): Promise<string> => {
    const become = ["setpriv", `--reuid=${user}`, `--regid=${user}`, "--clear-groups"];
    // What is dropped does not answer; what is only not there does.
    const script =
      `timeout 1 bash -c '(exec 3<>/dev/tcp/${address}/80) 2>/dev/null && echo open || echo refused' || echo silence`;
    return (await ground.lab.run("agent", ...become, "bash", "-c", script)).trim();
  };
  assertEquals(await connect(EGRESS_UID, WEB), "open");
  // What a killed agent leaves is found by `down`.
  assertEquals(egressProxies(homePaths(ground.home)).map(({ name }) => name), ["egress-proxy"]);
  const other = EGRESS_UID - 1;
  for (const [address, answer] of [[PRIVATE, "open"], [HOST_PUBLIC, "refused"], ["127.0.0.1", "refused"]] as const) {
    assertEquals([await connect(EGRESS_UID, address), await connect(other, address)], ["silence", answer], address);
  }
});

Deno.test("a guest reaches allowed names at the addresses that the host resolves, and nothing else", async (test) => {
  await using ground = await Ground.make();
  const { servers } = ground;
  await servers.name(NAME, [WEB]);
  await servers.name("other.test", [WEB]);
  await ground.allow(NAME, "*.private.test", "host.test", "rebind.test");

  for (const protocol of ["http", "https"] as const) {
    await test.step(`${protocol}: the name counts, not the address that the guest has chosen`, async () => {
      const told = await ground.ask(OTHER_WEB, protocol, NAME);
      assertStringIncludes(told, "200 OK");
      assertMatch(told, new RegExp(`"reached":"${WEB}:${protocol === "http" ? 80 : 443}","from":"198\\.51\\.100\\.2:`));
      assert(!ground.reached().some((at) => at.startsWith(OTHER_WEB)));
    });
    await test.step(`${protocol}: another name is refused, also at the address of an allowed one`, async () => {
      const before = ground.reached().length;
      const told = await ground.ask(WEB, protocol, "other.test");
      assertMatch(told, protocol === "http" ? /403 Forbidden[^]*not_allowed/ : /AccessDenied|access denied/i);
      assertEquals(ground.reached().length, before);
    });
  }

  await test.step("a name of a private address, of the host, or that turns into one, is refused", async () => {
    await servers.name("a.private.test", [PRIVATE]);
    await servers.name("host.test", [HOST_PUBLIC]);
    await servers.name("rebind.test", [[WEB], ["169.254.169.254"]]);
    const before = ground.reached().length;
    for (const name of ["a.private.test", "host.test"]) {
      assertMatch(await ground.ask(WEB, "http", name), /403 Forbidden[^]*reserved_address/);
    }
    assertEquals(ground.reached().length, before);
    assertStringIncludes(await ground.ask(WEB, "http", "rebind.test"), "200 OK");
    let told = "";
    while (!told.includes("403 Forbidden")) told = await ground.ask(WEB, "http", "rebind.test");
    assertStringIncludes(told, "reserved_address");
    assertEquals(ground.reached().slice(before).filter((at) => at !== `${WEB}:80`), []);
  });

  await test.step("an address that the policy allows is reached as it is", async () => {
    await ground.allow(NAME, OTHER_WEB);
    assertStringIncludes(await ground.ask(OTHER_WEB, "http", "other.test"), `"reached":"${OTHER_WEB}:80"`);
  });

  await test.step("without the name in the policy it is refused, without names nothing answers", async () => {
    await ground.allow("something.else");
    assertMatch(await ground.ask(WEB, "http", NAME), /403 Forbidden[^]*not_allowed/);
    await ground.allow();
    assert(!(await ground.ask(WEB, "http", NAME)).includes("HTTP/1.1"));
  });
});
