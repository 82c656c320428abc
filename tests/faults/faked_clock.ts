import { join } from "@std/path";

/** From Debian's libfaketime (TEST_PACKAGES); the one for programs with threads. */
const LIBRARY = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/** A wall clock of processes that can be set while they run. Their monotonic clocks, and so their timers, go on as they are. */
export class FakedClock implements AsyncDisposable {
  private constructor(private readonly directory: string) {}

  /** One that is right. */
  static async make(): Promise<FakedClock> {
    await Deno.stat(LIBRARY);
    const clock = new FakedClock(await Deno.makeTempDir());
    await clock.set(0);
    return clock;
  }

  /** Of the processes that are to have this clock. */
  get env(): Record<string, string> {
    return {
      LD_PRELOAD: LIBRARY,
      FAKETIME_TIMESTAMP_FILE: this.#file,
      FAKETIME_NO_CACHE: "1",
      FAKETIME_DONT_FAKE_MONOTONIC: "1",
      NO_FAKE_STAT: "1",
    };
  }

  get #file(): string {
    return join(this.directory, "offset");
  }

  /** From now on it is so many seconds ahead. */
  async set(aheadSec: number): Promise<void> {
    const next = `${this.#file}.next`;
    await Deno.writeTextFile(next, `${aheadSec < 0 ? "" : "+"}${aheadSec}s\n`);
    // Whoever asks for the time reads the file: never a half of it.
    await Deno.rename(next, this.#file);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.directory, { recursive: true });
  }
}
