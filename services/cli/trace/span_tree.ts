import type { TraceSpan } from "@torpor/proto/torpor";

/** A span with its children, which are in the order in which they started. */
export interface SpanNode {
  span: TraceSpan;
  depth: number;
  children: SpanNode[];
}

/** The trees of a trace's spans. A span whose parent has not arrived (or is the caller's own) is a root. */
export function spanTrees(spans: readonly TraceSpan[]): SpanNode[] {
  const nodes = new Map(spans.map((span): [string, SpanNode] => [span.spanId, { span, depth: 0, children: [] }]));
  const roots: SpanNode[] = [];
  for (const node of nodes.values()) (nodes.get(node.span.parentSpanId)?.children ?? roots).push(node);
  const arrange = (siblings: SpanNode[], depth: number) => {
    siblings.sort((a, b) => compare(a.span.startUnixNs, b.span.startUnixNs));
    for (const node of siblings) {
      node.depth = depth;
      arrange(node.children, depth + 1);
    }
  };
  arrange(roots, 0);
  return roots;
}

/** All nodes, parents before their children. */
export function* depthFirst(nodes: readonly SpanNode[]): Iterable<SpanNode> {
  for (const node of nodes) {
    yield node;
    yield* depthFirst(node.children);
  }
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
