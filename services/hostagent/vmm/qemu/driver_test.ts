import { assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { nativeFiles } from "@torpor/ffi";
import { TorporError } from "@torpor/errors";
import { GuestMemory } from "../../memory/guest_memory.ts";
import { Layout } from "../../storage/layout.ts";
import { QemuDriver, type QemuHost } from "./driver.ts";

const host: QemuHost = {
  program: "/usr/bin/qemu-system-x86_64",
  version: "7.2.22",
  accelerator: "kvm",
  hostCpu: "Some CPU",
  hostTscKhz: 2_100_000,
  nativeDirectory: nativeFiles().library.replace(/\/[^/]+$/, ""),
};

Deno.test("a snapshot of another VMM, machine, accelerator or CPU is refused, one of a point release is not", () => {
  const driver = new QemuDriver(host);
  driver.requireCompatible(driver.identity);
  driver.requireCompatible({ ...driver.identity, version: "7.2.23" });
  const others = [
    { driver: "firecracker" },
    { version: "8.0.0" },
    { machine: "q35" },
    { cpu_model: "max" },
    { accelerator: "tcg" as const },
    { host_cpu: "Another CPU" },
  ];
  for (const other of others) {
    const error = assertThrows(() => driver.requireCompatible({ ...driver.identity, ...other }), TorporError);
    assertEquals(error.code, "resume_failed");
    assertStringIncludes(error.message, String(Object.values(other)[0]));
  }
});

Deno.test("with TCG the host's CPU does not matter", () => {
  const snapshot = new QemuDriver({ ...host, accelerator: "tcg" }).identity;
  new QemuDriver({ ...host, accelerator: "tcg", hostCpu: "Another CPU" }).requireCompatible(snapshot);
});

Deno.test("a VMM that does not start says why", async () => {
  const home = await Deno.makeTempDir();
  const sandboxId = "s".repeat(20);
  const paths = new Layout(home).sandbox(sandboxId);
  await Deno.mkdir(paths.directory, { recursive: true });
  using memory = GuestMemory.create(sandboxId, 128);
  const driver = new QemuDriver({ ...host, accelerator: "tcg" });
  const config = {
    sandboxId,
    paths,
    vcpus: 1,
    memoryMb: 128,
    memoryFd: memory.fd,
    diskBytes: 0,
    baseImage: "/no/such/base",
  };
  const source = { kernel: "/no/such/kernel", initramfs: "/no/such/initramfs" };
  const error = await assertRejects(
    () => driver.boot(config, source, new AbortController().signal),
    TorporError,
    "/no/such/base",
  );
  assertEquals(error.code, "vm_start_failed");
  await Deno.remove(home, { recursive: true });
});
