import { assert, assertEquals, assertLess, assertMatch } from "@std/assert";
import { nativeFiles, type Process, spawn } from "@torpor/ffi";
import type { Jail } from "./jail.ts";
import { Jails } from "./jails.ts";
import { intrude, INTRUDER_LEASE_FD, runPerl, type Targets } from "./testing/intruder.ts";

const nativeDirectory = nativeFiles().library.replace(/\/[^/]+$/, "");
const FILE_BYTES = 2 ** 20;
const shape = { vcpus: 1, memoryMb: 64 };

async function withJails(work: (jails: Jails, home: string) => Promise<void>): Promise<void> {
  const home = await Deno.makeTempDir();
  try {
    await using jails = await Jails.open({ home, nativeDirectory, accelerator: "kvm", userBase: 700_000 });
    await work(jails, home);
  } finally {
    await Deno.remove(home, { recursive: true });
  }
}

/** What another sandbox has. */
async function withTargets(home: string, work: (targets: Targets) => Promise<void>): Promise<void> {
  const directory = `${home}/other`;
  await Deno.mkdir(directory);
  await Deno.writeTextFile(`${directory}/disk.raw`, "secret");
  const socket = `${directory}/qmp.sock`;
  using _listener = Deno.listen({ transport: "unix", path: socket });
  const options = { path: "/bin/sleep", argv: ["sleep", "600"], env: {}, cwd: "/", descriptors: [] };
  await using victim = spawn({ ...options, deathSignal: 9 });
  await work({ pid: victim.pid, directory, socket });
}

Deno.test("whoever takes over a VMM or a pager can do nothing of what root can do", async () => {
  await withJails(async (jails, home) => {
    await using jail = jails.create(shape);
    await withTargets(home, async (targets) => {
      for (const place of ["vmm", "pager"] as const) {
        using seat = jail[place](INTRUDER_LEASE_FD, FILE_BYTES);
        const { succeeded, tried } = await intrude(targets, seat);
        assertEquals([place, succeeded], [place, []]);
        assert(tried >= 25, `${tried}`);
      }
      // That they were refused says something only where the same attempts succeed otherwise.
      const { succeeded, tried } = await intrude(targets);
      assertEquals(succeeded.length, tried, `not even without a jail: only ${succeeded.join(", ")}`);
    });
  });
});

Deno.test("a VMM is its own user, without capabilities, in namespaces of its own, with its own descriptors only", async () => {
  await withJails(async (jails, home) => {
    await using jail = jails.create(shape);
    using seat = jail.vmm(INTRUDER_LEASE_FD, FILE_BYTES);
    const said = await runPerl(`exec("cat", map { "/proc/self/$_" } qw(status limits mountinfo cgroup))`, seat);
    const user = jail.record.vmm_user!;
    assertMatch(said, new RegExp(`^Uid:\\s+${user}\\s+${user}\\s+${user}\\s+${user}$`, "m"));
    assertMatch(said, new RegExp(`^Gid:\\s+${user}\\s+${user}\\s+${user}\\s+${user}$`, "m"));
    assertMatch(said, /^Groups:\s*$/m);
    for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]) {
      assertMatch(said, new RegExp(`^${set}:\\s+0{16}$`, "m"));
    }
    assertMatch(said, /^NoNewPrivs:\s+1$/m);
    assertMatch(said, /^Seccomp:\s+2$/m);
    assertMatch(said, /^Pid:\s+1$/m);
    assertMatch(said, new RegExp(`^Max file size\\s+${FILE_BYTES}\\s+${FILE_BYTES} `, "m"));
    assertMatch(said, /^Max core file size\s+0\s+0 /m);
    const mounts = [...said.matchAll(/^\d+ \d+ \d+:\d+ \S+ (\S+) (\S+) /gm)].map(([, path, options]) =>
      `${path} ${options}`
    );
    assertEquals(mounts.filter((mount) => !mount.includes(" ro,nosuid")), ["/proc rw,nosuid,nodev,noexec,relatime"]);
    assertEquals(mounts.map((mount) => mount.split(" ")[0]).sort(), [
      "/",
      "/dev",
      "/etc/ld.so.cache",
      "/proc",
      "/torpor",
      "/usr",
    ]);
    assert(!said.includes(home), "it can see where the host's data is");
    assertEquals(
      await runPerl(`print join(" ", map { s/.*\\///r } glob("/dev/*"))`, seat).then((text) =>
        text.replace(/ ?kvm/, "")
      ),
      "full null random urandom zero",
    );
    // 3: the directory itself, while it is read.
    assertEquals(
      await runPerl(`opendir(D, "/proc/self/fd"); print join(" ", sort grep { /\\d/ } readdir(D))`, seat),
      "0 1 2 3 9",
    );
    const devices = await runPerl(`open(F, "<", "/proc/self/net/dev") and print <F>`, seat);
    assertEquals([...devices.matchAll(/^\s*(\S+):/gm)].map(([, name]) => name), ["lo"]);
  });
});

Deno.test("no two jails share a user", async () => {
  await withJails(async (jails) => {
    await using one = jails.create(shape);
    await using two = jails.create(shape);
    const users = [one, two].flatMap(({ record }) => [record.vmm_user!, record.pager_user!]);
    assertEquals(new Set(users).size, 4);
    for (const user of users) assert(user >= 700_000 && user < 700_000 + 65_536);
  });
});

Deno.test("a jail is found again by the next agent, which ends and removes what nobody has any more", async () => {
  await withJails(async (jails, home) => {
    const [jail, stray] = [jails.create(shape), jails.create(shape)];
    const [kept, left] = [sleepIn(jail), sleepIn(stray)];
    for (const each of [jail, stray]) await each.release();
    await using later = await Jails.open({ home, nativeDirectory, accelerator: "kvm", userBase: 700_000 });
    const adopted = later.adopt(jail.record);
    assertEquals(adopted.record, jail.record);
    await later.sweep(new Set([jail.name]));
    await left.exited;
    {
      using again = adopted.pager(INTRUDER_LEASE_FD);
      assertEquals(await runPerl("print 1", again), "1");
    }
    await kept[Symbol.asyncDispose]();
    await adopted[Symbol.asyncDispose]();
    await later.sweep(new Set());
  });
});

function sleepIn(jail: Jail): Process {
  using seat = jail.vmm(INTRUDER_LEASE_FD, FILE_BYTES);
  const sleep = { path: "/bin/sleep", argv: ["sleep", "600"], env: {}, cwd: "/", descriptors: seat.descriptors };
  const process = spawn({ ...sleep, ...seat.options });
  seat.taken(process);
  return process;
}

Deno.test("a jail's memory and processes are limited, and memory without a jail is not", async () => {
  await withJails(async (jails) => {
    assertEquals(jails.capabilities.filter((name) => name.startsWith("limited:")).length, 3);
    await using jail = jails.create({ vcpus: 1, memoryMb: 1 });
    using seat = jail.vmm(INTRUDER_LEASE_FD, FILE_BYTES);
    const limited =
      `until (do { local @ARGV = "/proc/self/cgroup"; join("", <>) } =~ m{/torpor/}) { select(undef, undef, undef, 0.01) }`;
    const allocate = `my $m = "x" x (400 << 20); print "has it"`;
    assertEquals(await runPerl(`${limited} ${allocate}`, seat), "");
    assertEquals(await runPerl(allocate), "has it");
    const forks =
      `for my $n (0 .. 400) { my $p = fork; if (!defined $p) { print $n; last } if (!$p) { sleep 60; exit } } exec "true"`;
    assertLess(Number(await runPerl(forks, seat)), 120);
  });
});
