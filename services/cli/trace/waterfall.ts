import type { TraceSpan } from "@torpor/proto/torpor";
import { formatMs } from "../terminal/format.ts";
import type { Paint, Style } from "../terminal/paint.ts";
import { depthFirst, type SpanNode, spanTrees } from "./span_tree.ts";

const STYLES: Record<string, Style> = {
  cli: "bold",
  api: "cyan",
  scheduler: "yellow",
  reconciler: "dim",
  hostagent: "green",
  pager: "magenta",
  guest: "blue",
};

const COMPONENT_WIDTH = 10;
const TIME_WIDTH = 10;
const MAX_NAME_WIDTH = 52;

/** How to draw a trace. */
export interface WaterfallOptions {
  /** Width of the terminal. */
  columns: number;
  /** Spans that took less are left out, with what is below them, milliseconds. */
  minMs: number;
}

/** Draws a trace as a waterfall: one line a span with component, name, duration and a bar on a common time axis. */
export function drawWaterfall(spans: readonly TraceSpan[], options: WaterfallOptions, paint: Paint): string {
  const roots = spanTrees(spans.filter((span) => durationMs(span) >= options.minMs));
  const nodes = [...depthFirst(roots)];
  if (nodes.length === 0) return "";
  const first = nodes.map(({ span }) => span.startUnixNs).reduce((a, b) => a < b ? a : b);
  const last = nodes.map(({ span }) => span.endUnixNs).reduce((a, b) => a > b ? a : b);
  const nameWidth = Math.min(MAX_NAME_WIDTH, Math.max(...nodes.map(({ span, depth }) => span.name.length + 2 * depth)));
  const barWidth = Math.max(10, options.columns - COMPONENT_WIDTH - nameWidth - TIME_WIDTH - 4);
  const scale = barWidth / Math.max(1, Number(last - first));
  return nodes.map((node) => drawLine(node, { first, scale, nameWidth, barWidth }, paint)).join("\n");
}

function durationMs(span: TraceSpan): number {
  return Number(span.endUnixNs - span.startUnixNs) / 1e6;
}

interface Axis {
  first: bigint;
  /** Columns per nanosecond. */
  scale: number;
  nameWidth: number;
  barWidth: number;
}

function drawLine({ span, depth }: SpanNode, axis: Axis, paint: Paint): string {
  const style = STYLES[span.component] ?? "dim";
  const failed = span.status === "error";
  const name = fit("  ".repeat(depth) + span.name, axis.nameWidth);
  const time = formatMs(durationMs(span)).padStart(TIME_WIDTH);
  const start = Math.min(axis.barWidth - 1, Math.floor(Number(span.startUnixNs - axis.first) * axis.scale));
  const length = Math.round(Number(span.endUnixNs - span.startUnixNs) * axis.scale);
  // What is shorter than half a column is a thin mark.
  const bar = " ".repeat(start) + (length === 0 ? "▏" : "█".repeat(Math.min(length, axis.barWidth - start)));
  return [
    paint(style, span.component.padEnd(COMPONENT_WIDTH)),
    failed ? paint("red", name) : name,
    time,
    `│${paint(failed ? "red" : style, bar)}`,
  ].join(" ").trimEnd();
}

function fit(text: string, width: number): string {
  return text.length <= width ? text.padEnd(width) : `${text.slice(0, width - 1)}…`;
}
