import { assertEquals } from "@std/assert";
import { selectSources } from "./debian.ts";

Deno.test("of deb822 sources only the release's own archive is kept", () => {
  const archive = "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n" +
    "Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg";
  const security = "Types: deb deb-src\nURIs: http://mirror.example/security\nSuites: bookworm-security\n" +
    "Components: main contrib";
  const others = [
    "Types: deb\nURIs: http://vendor.example\nSuites: nodistro\nComponents: main",
    "Types: deb\nURIs: http://vendor.example\nSuites: bookworm\nComponents: stable",
    "Types: deb-src\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main",
    "Enabled: no\nTypes: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main",
  ];
  const text = [others[0], archive, others[1], others[2], security, others[3]].join("\n\n");
  assertEquals(selectSources(`${text}\n`, true, "bookworm"), `${archive}\n\n${security}`);
  assertEquals(selectSources(text, true, "trixie"), "");
});

Deno.test("of one-line sources only the release's own archive is kept", () => {
  const kept = [
    "deb http://mirror.example/debian bookworm main contrib",
    "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/security bookworm-security main",
  ];
  const dropped = [
    "# deb http://mirror.example/debian bookworm main",
    "deb-src http://mirror.example/debian bookworm main",
    "deb http://vendor.example bookworm stable",
    "deb http://vendor.example bookworm-pgdg main",
    "",
  ];
  assertEquals(selectSources([...dropped, ...kept].join("\n"), false, "bookworm"), kept.join("\n"));
});
