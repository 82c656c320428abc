import { assertEquals, assertGreater, assertThrows } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { formatManifest, type Manifest, parseManifest, storedBytes } from "./manifest.ts";

const manifest: Manifest = {
  schema: 2,
  kind: "kept",
  name: "after set-up",
  snapshot_id: "a".repeat(20),
  sandbox_id: "b".repeat(20),
  parent_id: null,
  generation: 1,
  created_at: "2026-01-02T03:04:05.678Z",
  vmm: { driver: "qemu", version: "7.2.22", machine: "microvm", cpu_model: "max", accelerator: "tcg", host_cpu: "" },
  vcpus: 1,
  memory_mb: 512,
  disk_size_mb: 5120,
  template: "base",
  base_image: "0123456789abcdef",
  agent_protocol: 1,
  files: {
    state: { bytes: 1, crc32c: 2 },
    memory_header: { bytes: 10, crc32c: 3 },
    memory_data: { bytes: 100, crc32c: 4 },
    disk: { bytes: 5120 * 2 ** 20, allocated_bytes: 1000 },
  },
  pages: { resident: 5, dirty: 6, data: 7 },
};

Deno.test("a manifest is read as it was written", () => {
  assertEquals(parseManifest(formatManifest(manifest)), manifest);
  assertEquals(storedBytes(manifest), 1111);
});

Deno.test("a manifest of schema 1 is that of a generation", () => {
  const { kind: _kind, name: _name, ...old } = manifest;
  assertEquals(parseManifest(JSON.stringify({ ...old, schema: 1 })), { ...manifest, kind: "generation", name: "" });
});

/** The manifest's own checksum: the last one in the text. */
const crcOf = (text: string) => text.match(/"crc32c": (\d+)\n}\n$/)![1];

Deno.test("a manifest of a disk that is a difference counts what is stored", () => {
  const disk = {
    bytes: 5120 * 2 ** 20,
    allocated_bytes: 4096,
    difference: { header: { bytes: 128, crc32c: 1 }, data: { bytes: 4096, crc32c: 2 } },
  };
  const small = { ...manifest, files: { ...manifest.files, disk } };
  assertEquals(parseManifest(formatManifest(small)), small);
  assertEquals(storedBytes(small), 111 + 4096 + 128);
});

Deno.test("any single-bit change of a manifest is refused or means the same", () => {
  const text = new TextEncoder().encode(formatManifest(manifest));
  let refused = 0;
  for (let bit = 0; bit < text.length * 8; bit++) {
    const changed = text.slice();
    changed[bit >> 3]! ^= 1 << (bit & 7);
    try {
      assertEquals(parseManifest(new TextDecoder().decode(changed)), manifest);
    } catch (error) {
      if (!(error instanceof TorporError)) throw error;
      assertEquals(error.code, "snapshot_corrupt");
      refused++;
    }
  }
  // What is left is white space.
  assertGreater(refused, 0.8 * 8 * text.length);
});

Deno.test("a manifest that is not whole is corrupt", () => {
  const text = formatManifest(manifest);
  const faults: [string, string][] = [
    [text.slice(0, -5), "no JSON"],
    [text.replace(`"schema": 2`, `"schema": 3`), "schema"],
    [text.replace(`"schema": 2`, `"schema": 1`), "(root)"],
    [text.replace(`"kept"`, `"other"`), "kind"],
    [text.replace(`"after set-up"`, `"${"x".repeat(129)}"`), "name"],
    [text.replace("b".repeat(20), "../../etc"), "sandbox_id"],
    [text.replace(`"generation": 1`, `"generation": 0`), "generation"],
    [text.replace(`"bytes": 100,`, `"bytes": -1,`), "files.memory_data.bytes"],
    [text.replace(`"vcpus"`, `"cpus"`), "vcpus"],
    [text.replace(`"crc32c": ${crcOf(text)}`, `"other": 1`), "crc32c"],
    [text.replace(`"vcpus": 1`, `"vcpus": 2`), "checksum"],
    ["null", "(root)"],
  ];
  for (const [fault, field] of faults) {
    assertEquals(assertThrows(() => parseManifest(fault), TorporError, field).code, "snapshot_corrupt");
  }
});
