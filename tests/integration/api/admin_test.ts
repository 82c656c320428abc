import { assert, assertEquals, assertMatch } from "@std/assert";
import { openTestDatabase } from "@torpor/testing/postgres";

const ROOT = new URL("../../../", import.meta.url).pathname;

/** Runs services/api/admin.ts as `torpor up` does. */
async function admin(databaseUrl: string, ...args: string[]) {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--no-check",
      "--config",
      `${ROOT}deno.json`,
      "-A",
      `${ROOT}services/api/admin.ts`,
      ...args,
    ],
    env: { DATABASE_URL: databaseUrl },
  }).output();
  const text = new TextDecoder();
  return { code, out: text.decode(stdout), err: text.decode(stderr) };
}

Deno.test("the administration commands, from an empty database", async () => {
  await using test = await openTestDatabase({ migrated: false });
  const migrated = await admin(test.url, "migrate", "--json");
  assertEquals(migrated.code, 0, migrated.err);
  assert(JSON.parse(migrated.out).applied.length > 0);
  assertEquals(JSON.parse((await admin(test.url, "migrate", "--json")).out), { applied: [] });

  const made = JSON.parse((await admin(test.url, "create-api-key", "--name", "ci", "--json")).out);
  assertMatch(made.key, /^e2b_[0-9a-f]{40}$/);
  const { keys } = JSON.parse((await admin(test.url, "list-api-keys", "--json")).out);
  assertEquals([keys.length, keys[0].name, keys[0].revoked_at], [1, "ci", null]);
  assert(!JSON.stringify(keys).includes(made.key));
  assertEquals((await admin(test.url, "revoke-api-key", made.id)).code, 0);
  const gone = await admin(test.url, "revoke-api-key", "nobody");
  assertEquals([gone.code, gone.err.startsWith("not_found")], [1, true]);
});

Deno.test("without a database the commands say so and fail", async () => {
  const { code, err } = await admin("postgres://nobody@localhost/none?host=/nowhere", "migrate");
  assertEquals([code, err.startsWith("unavailable")], [1, true], err);
});
