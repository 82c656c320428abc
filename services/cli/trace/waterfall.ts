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

/**
 * Draws a trace as a waterfall: one line a span with component, name, duration and a bar on a common time axis.
 * @param columns width of the terminal.
 */
export function drawWaterfall(spans: readonly TraceSpan[], columns: number, paint: Paint): string {
  const nodes = [...depthFirst(spanTrees(spans))];
  const first = nodes.reduce(
    (least, { span }) => span.startUnixNs < least ? span.startUnixNs : least,
    nodes[0]!.span.startUnixNs,
  );
  const last = nodes.reduce((most, { span }) => span.endUnixNs > most ? span.endUnixNs : most, first);
  const nameWidth = Math.min(MAX_NAME_WIDTH, Math.max(...nodes.map(({ span, depth }) => span.name.length + 2 * depth)));
  const barWidth = Math.max(10, columns - COMPONENT_WIDTH - nameWidth - TIME_WIDTH - 4);
  const scale = barWidth / Math.max(1, Number(last - first));
  return nodes.map((node) => drawLine(node, { first, scale, nameWidth, barWidth }, paint)).join("\n");
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
  const time = formatMs(Number(span.endUnixNs - span.startUnixNs) / 1e6).padStart(TIME_WIDTH);
  const start = Math.min(axis.barWidth - 1, Math.floor(Number(span.startUnixNs - axis.first) * axis.scale));
  const length = Math.max(1, Math.round(Number(span.endUnixNs - span.startUnixNs) * axis.scale));
  const bar = " ".repeat(start) + "█".repeat(Math.min(length, axis.barWidth - start));
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
