/** The examples in docs/formats are what this version writes. */
import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { ContentHasher, formatContentName, parseContentName } from "./content_hash.ts";
import { crc32c } from "./crc32c.ts";
import { decodeHeader } from "./decode_header.ts";
import { encodeDiskSums, SUM_CHUNK_BYTES } from "./disk_sums.ts";
import { encodeHeader } from "./encode_header.ts";
import { ExtentTableBuilder, PAGE_BYTES } from "./extent_table.ts";
import { formatManifest, type Manifest, parseManifest } from "./manifest.ts";
import { formatOrigin, originOf } from "./origin.ts";
import { encodeWorkingSet } from "./working_set.ts";

const PARENT = "parent5parent5parent";
const CHILD = "child4child4child4ch";

async function document(name: string): Promise<string> {
  return await Deno.readTextFile(new URL(`../../docs/formats/${name}.md`, import.meta.url));
}

/** As `hexdump -C` prints it. */
function hexdump(bytes: Uint8Array): string {
  const lines: string[] = [];
  let previous = "";
  for (let at = 0; at < bytes.length; at += 16) {
    const row = [...bytes.subarray(at, at + 16)];
    const hex = row.map((byte) => byte.toString(16).padStart(2, "0"));
    const text = row.map((byte) => byte >= 32 && byte < 127 ? String.fromCharCode(byte) : ".").join("");
    const content = `${hex.slice(0, 8).join(" ").padEnd(23)}  ${hex.slice(8).join(" ").padEnd(23)}  |${text}|`;
    if (content !== previous) lines.push(`${at.toString(16).padStart(8, "0")}  ${content}`);
    else if (lines.at(-1) !== "*") lines.push("*");
    previous = content;
  }
  lines.push(bytes.length.toString(16).padStart(8, "0"));
  return lines.join("\n");
}

function table(kind: "memory" | "disk") {
  const builder = new ExtentTableBuilder(kind, 2);
  builder.addZero(PAGE_BYTES);
  builder.addData(2 * PAGE_BYTES, PARENT, 0);
  builder.addData(PAGE_BYTES, CHILD, 0);
  return builder.build();
}

const manifest: Manifest = {
  schema: 2,
  kind: "generation",
  name: "",
  snapshot_id: CHILD,
  sandbox_id: "box7box7box7box7box7",
  parent_id: PARENT,
  generation: 2,
  created_at: "2026-01-02T03:04:05.678Z",
  vmm: {
    driver: "qemu",
    version: "7.2.22",
    machine: "microvm",
    cpu_model: "max",
    accelerator: "tcg",
    host_cpu: "",
  },
  vcpus: 1,
  memory_mb: 256,
  disk_size_mb: 512,
  template: "base",
  base_image: "0123456789abcdef0123456789abcdef",
  agent_protocol: 1,
  files: {
    state: { bytes: 61_234, crc32c: 305_419_896 },
    memory_header: { bytes: 224, crc32c: 2_596_069_104 },
    memory_data: { bytes: 4096, crc32c: 19_088_743 },
    disk: {
      bytes: 536_870_912,
      allocated_bytes: 8192,
      difference: { header: { bytes: 224, crc32c: 7 }, data: { bytes: 8192, crc32c: 11 } },
    },
  },
  pages: { resident: 9000, dirty: 1, data: 3 },
};

for (const [name, kind] of [["extent-header", "memory"], ["disk", "disk"]] as const) {
  Deno.test(`the example in ${name}.md is what the encoder writes`, async () => {
    const bytes = encodeHeader(table(kind));
    assertStringIncludes(await document(name), hexdump(bytes));
    assertEquals(decodeHeader(bytes).kind, kind);
  });
}

Deno.test("the example in working-set.md is what the encoder writes", async () => {
  assertStringIncludes(await document("working-set"), hexdump(encodeWorkingSet(Uint32Array.of(7, 2, 4095), 2 ** 24)));
});

Deno.test("the example in data.md has the pages where the example's header says", async () => {
  const bytes = new Uint8Array(PAGE_BYTES);
  bytes.set(new TextEncoder().encode("the only page that changed"));
  const text = await document("data");
  assertStringIncludes(text, hexdump(bytes));
  assertStringIncludes(text, `0x${crc32c(bytes).toString(16)}`);
});

Deno.test("the example in disk-sums.md is what the encoder writes", async () => {
  const chunk = new Uint8Array(SUM_CHUNK_BYTES);
  const zeros = crc32c(chunk);
  const last = crc32c(chunk.subarray(0, PAGE_BYTES));
  chunk.set(new TextEncoder().encode("the only page that changed"));
  const sums = Uint32Array.of(crc32c(chunk), zeros, last);
  const bytes = encodeDiskSums({ sizeBytes: 2 * SUM_CHUNK_BYTES + PAGE_BYTES, sums });
  assertStringIncludes(await document("disk-sums"), hexdump(bytes));
});

Deno.test("the examples in manifest.md are what is written, and are read", async () => {
  const text = await document("manifest");
  assertStringIncludes(text, formatManifest(manifest));
  assertEquals(parseManifest(formatManifest(manifest)), manifest);
  assertStringIncludes(text, formatOrigin(originOf(manifest)));
});

Deno.test("content-hash.md has a page's content hash; a broken one is refused", async () => {
  const page = new Uint8Array(PAGE_BYTES);
  page.set(new TextEncoder().encode("the only page that changed"));
  const hasher = new ContentHasher();
  await hasher.add(page);
  const name = await hasher.finish(page.length);
  const text = formatContentName(name);
  assertStringIncludes(await document("content-hash"), text);
  assertEquals(parseContentName(text), name);
  for (const broken of [text.replace("4096", "4097"), text.slice(1), text.replace('"schema":1', '"schema":2')]) {
    assertThrows(() => parseContentName(broken), TorporError);
  }
});
