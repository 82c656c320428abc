import { assert, assertEquals } from "@std/assert";
import { Layout } from "../../storage/layout.ts";
import type { VmmConfig } from "../driver.ts";
import { bootArguments, MACHINE_IDENTITY, restoreArguments } from "./command_line.ts";

const sandboxId = "s".repeat(20);
const config: VmmConfig = {
  sandboxId,
  paths: new Layout("/srv/a,b").sandbox(sandboxId),
  vcpus: 2,
  memoryMb: 256,
  memoryFd: 9,
  diskBytes: 2 ** 29,
  baseImage: "/cache/base.ext4",
};

/** The values of one option. */
function valuesOf(args: string[], option: string): string[] {
  return args.flatMap((arg, index) => arg === option ? [args[index + 1]!] : []);
}

Deno.test("a VM has no default devices, and what it may do is denied", () => {
  for (
    const args of [
      bootArguments(config, { accelerator: "tcg" }, 2_100_000),
      restoreArguments(config, { accelerator: "kvm" }),
    ]
  ) {
    for (const flag of ["-nodefaults", "-no-user-config", "-no-reboot"]) assert(args.includes(flag));
    assertEquals(valuesOf(args, "-nic"), ["none"]);
    assert(valuesOf(args, "-sandbox")[0]!.startsWith("on,"));
  }
});

Deno.test("a restored VM has the devices of the booted one in the same order, and no kernel", () => {
  const booted = bootArguments(config, { accelerator: "tcg" }, 2_100_000);
  const restored = restoreArguments(config, { accelerator: "tcg" });
  assertEquals(restored.slice(0, -2), booted.slice(0, restored.length - 2));
  assertEquals(restored.slice(-2), ["-incoming", "defer"]);
  assert(booted.includes("-S"));
});

Deno.test("the base is the first disk and read-only", () => {
  const args = bootArguments(config, { accelerator: "tcg" }, 2_100_000);
  const devices = valuesOf(args, "-device").filter((device) => device.startsWith("virtio-blk"));
  assertEquals(devices, ["virtio-blk-device,drive=base", "virtio-blk-device,drive=disk,werror=stop,rerror=report"]);
  const base = valuesOf(args, "-blockdev").filter((blockdev) => blockdev.includes("node-name=base"));
  assert(base.every((blockdev) => blockdev.includes("read-only=on")));
});

Deno.test("a VM opens no file by a name of the host's; its directory only says whose it is", () => {
  const args = bootArguments(config, { accelerator: "tcg" }, 2_100_000);
  const named = args.filter((arg) => /=\//.test(arg)).map((arg) => /=(\/[^,]*(,,[^,]*)*)/.exec(arg)![1]!);
  const own = (path: string) => /^\/(proc\/self\/fd|dev\/fdset)\/\d+$/.test(path) || path === "/dev/urandom";
  assertEquals(named.filter((path) => !own(path)), [`/srv/a,,b/sandboxes/${sandboxId}/`]);
  assertEquals(valuesOf(args, "-kernel"), ["/proc/self/fd/15"]);
});

Deno.test("only TCG is told the frequency of the host's time-stamp counter", () => {
  const append = (accelerator: "kvm" | "tcg") =>
    valuesOf(bootArguments(config, { accelerator }, 2_100_000), "-append")[0]!;
  assert(append("tcg").includes("tsc_early_khz=2100000"));
  assert(!append("kvm").includes("tsc"));
});

Deno.test("what a guest frees leaves the host, and a snapshot says that it needs the device for that", () => {
  for (
    const args of [
      bootArguments(config, { accelerator: "tcg" }, 2_100_000),
      restoreArguments(config, { accelerator: "tcg" }),
    ]
  ) {
    const balloon = valuesOf(args, "-device").filter((device) => device.includes("balloon"));
    assertEquals(balloon, ["virtio-balloon-device,free-page-reporting=on"]);
    assert(MACHINE_IDENTITY.includes(balloon[0]!));
  }
});

Deno.test("the network device is the last and always the same, whatever is behind it", () => {
  const backends = [[undefined, "hubport,id=net,hubid=0"], [12, "tap,id=net,fd=7,vhost=off"]] as const;
  for (const [tapFd, backend] of backends) {
    const args = restoreArguments({ ...config, tapFd }, { accelerator: "tcg" });
    assertEquals(valuesOf(args, "-netdev"), [backend]);
    const device = valuesOf(args, "-device").at(-1)!;
    assert(device.startsWith("virtio-net-device,netdev=net,mac=02:74:72:70:00:02,"), device);
    assert(MACHINE_IDENTITY.endsWith(device));
  }
});
