import { formatMs } from "./format.ts";
import { paintFor, visibleWidth } from "./paint.ts";

const FRAMES = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
const FRAME_MS = 100;

/** Reports what a step is doing now; on a terminal it replaces the last report. */
export type Report = (detail: string) => void;

/**
 * Shows steps on stderr, so that stdout carries results only: a spinner line each on a terminal, plain lines elsewhere
 * (there a step's details appear as lines of their own).
 */
export class Progress {
  readonly #interactive = Deno.stderr.isTerminal();
  readonly #paint = paintFor(Deno.stderr);
  #line: SpinnerLine | undefined;

  /** Runs `work` as one step named `title`, and shows how long it took. Errors are passed on. */
  async step<T>(title: string, work: (report: Report) => Promise<T>): Promise<T> {
    const started = performance.now();
    // There is one line: of steps at the same time it shows the one that began first.
    const line = this.#interactive && !this.#line ? new SpinnerLine(title) : undefined;
    this.#line ??= line;
    if (!this.#interactive) this.#print(`… ${title}`);
    let last = "";
    const report = (detail: string) => {
      if (line) line.detail = detail;
      else if (!this.#interactive && detail !== last) this.#print(`    ${detail}`);
      last = detail;
    };
    let mark = this.#paint("red", "✗");
    try {
      const result = await work(report);
      mark = this.#paint("green", "✓");
      return result;
    } finally {
      line?.end();
      if (line) this.#line = undefined;
      this.#print(`${mark} ${title} ${this.#paint("dim", formatMs(performance.now() - started))}`);
    }
  }

  /** Shows one line. */
  note(text: string): void {
    this.#print(text);
  }

  #print(text: string): void {
    console.error(text);
  }
}

/** One line of a terminal that is redrawn until it ends; then it is empty. */
class SpinnerLine {
  detail = "";
  #frame = 0;
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(readonly title: string) {
    this.#draw();
    this.#timer = setInterval(() => this.#draw(), FRAME_MS);
  }

  end(): void {
    clearInterval(this.#timer);
    write("\r\x1b[K");
  }

  #draw(): void {
    const columns = consoleColumns();
    let text = `${FRAMES[this.#frame++ % FRAMES.length]} ${this.title}${this.detail && `: ${this.detail}`}`;
    if (visibleWidth(text) >= columns) text = [...text].slice(0, columns - 2).join("") + "…";
    write(`\r${text}\x1b[K`);
  }
}

const DEFAULT_COLUMNS = 120;

/** Columns of the terminal; without one `$COLUMNS`, else 120. */
export function consoleColumns(): number {
  try {
    return Deno.consoleSize().columns;
  } catch (error) {
    // No standard stream is a terminal: that is an ENOTTY without a class of its own.
    if (!(error instanceof Error)) throw error;
    const columns = Number(Deno.env.get("COLUMNS"));
    return columns > 0 ? columns : DEFAULT_COLUMNS;
  }
}

function write(text: string): void {
  Deno.stderr.writeSync(new TextEncoder().encode(text));
}
