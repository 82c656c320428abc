import { type Counter, type Histogram, metrics, type ObservableGauge, type UpDownCounter } from "@opentelemetry/api";
import { asTorporError } from "@torpor/errors";
import { type InstrumentKind, INSTRUMENTS, type MetricAttributes, type MetricName } from "./instruments.ts";
import { log } from "./log.ts";
import { untraced } from "./spans.ts";

const meter = metrics.getMeter("torpor");

interface OtelInstruments {
  counter: Counter;
  histogram: Histogram;
  active: UpDownCounter;
  gauge: ObservableGauge;
}

/** Made when first used, so that a service exports only what it has. */
const made = new Map<string, OtelInstruments[InstrumentKind]>();

function instrument<Kind extends InstrumentKind>(name: MetricName<Kind>): OtelInstruments[Kind] {
  const existing = made.get(name);
  const result = existing ?? make(name);
  if (!existing) made.set(name, result);
  return result as OtelInstruments[Kind];
}

function make(name: MetricName): OtelInstruments[InstrumentKind] {
  const { kind, unit, description, ...rest } = INSTRUMENTS[name];
  switch (kind) {
    case "counter":
      return meter.createCounter(name, { unit, description });
    case "active":
      return meter.createUpDownCounter(name, { unit, description });
    case "gauge":
      return meter.createObservableGauge(name, { unit, description });
    case "histogram": {
      const explicitBucketBoundaries = "buckets" in rest ? [...rest.buckets ?? []] : undefined;
      return meter.createHistogram(name, { unit, description, advice: { explicitBucketBoundaries } });
    }
  }
}

/** Adds to a counter. @param value in the metric's unit; 0 and less add nothing. */
export function count<Name extends MetricName<"counter">>(
  name: Name,
  value: number,
  attributes: MetricAttributes<Name>,
): void {
  if (value > 0) instrument<"counter">(name).add(value, attributes);
}

/** Adds one value to a histogram. @param value in the metric's unit: seconds. */
export function measure<Name extends MetricName<"histogram">>(
  name: Name,
  value: number,
  attributes: MetricAttributes<Name>,
): void {
  instrument<"histogram">(name).record(value, attributes);
}

/** Histograms that tell how something ended. */
type TimedName = {
  [Name in MetricName<"histogram">]: "torpor.outcome" extends keyof MetricAttributes<Name> ? Name : never;
}[MetricName<"histogram">];

/** Measures how long `work` takes and how it ends: `torpor.outcome` is `ok` or the code of what it throws. */
export async function timed<Name extends TimedName, T>(
  name: Name,
  attributes: Omit<MetricAttributes<Name>, "torpor.outcome">,
  work: () => T | Promise<T>,
): Promise<T> {
  const began = performance.now();
  const end = (outcome: string) => {
    const all = { ...attributes, "torpor.outcome": outcome } as unknown as MetricAttributes<Name>;
    measure(name, (performance.now() - began) / 1000, all);
  };
  try {
    const result = await work();
    end("ok");
    return result;
  } catch (thrown) {
    end(asTorporError(thrown).code);
    throw thrown;
  }
}

/** Counts something as under way until the result is disposed. */
export function underWay(name: MetricName<"active">): Disposable {
  const active = instrument<"active">(name);
  active.add(1);
  return { [Symbol.dispose]: () => active.add(-1) };
}

/** Gives the value of a gauge. */
export type Observe = <Name extends MetricName<"gauge">>(
  name: Name,
  value: number,
  attributes: MetricAttributes<Name>,
) => void;

/**
 * Calls `look` whenever metrics are collected; what it does not give a value then has none. When it throws, that is logged
 * and there are no values. Disposing the result ends it, after a look that is under way.
 */
export function observed(
  names: readonly MetricName<"gauge">[],
  look: (observe: Observe) => Promise<void>,
): AsyncDisposable {
  const gauges = names.map((name) => instrument<"gauge">(name));
  let looking: Promise<void> = Promise.resolve();
  const callback: Parameters<typeof meter.addBatchObservableCallback>[0] = (result) => {
    const observe: Observe = (name, value, attributes) => result.observe(instrument<"gauge">(name), value, attributes);
    // Deno ends the process for what a callback throws.
    looking = untraced(() => look(observe)).catch((thrown) => log("warn", "metrics_not_observed", {}, thrown));
    return looking;
  };
  meter.addBatchObservableCallback(callback, gauges);
  return {
    [Symbol.asyncDispose]: async () => {
      meter.removeBatchObservableCallback(callback, gauges);
      await looking;
    },
  };
}
