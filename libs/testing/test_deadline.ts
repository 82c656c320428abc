/**
 * Preloaded by `./torpor test`: a test that hangs fails at a deadline, and the others go on. Those with an own `timeout` keep
 * it.
 */
const DEADLINE_MS = Number(Deno.env.get("TORPOR_TEST_DEADLINE_MS") ?? 600_000);

type Options = Partial<Deno.TestDefinition>;

function withDeadline(args: unknown[]): unknown[] {
  const options = args.find((arg): arg is Options => typeof arg === "object");
  if (options) return args.map((arg) => arg === options ? { timeout: DEADLINE_MS, ...options } : arg);
  return [...args.slice(0, -1), { timeout: DEADLINE_MS }, args.at(-1)];
}

const test = new Proxy(Deno.test, { apply: (target, self, args) => Reflect.apply(target, self, withDeadline(args)) });
Object.defineProperty(Deno, "test", { value: test, configurable: true, writable: true });
