/** One path of the API with its methods. */
export interface KnownPath {
  /** As OpenAPI writes it: `/v1/sandboxes/{sandbox_id}`. */
  template: string;
  /** Upper case, without HEAD. */
  methods: Set<string>;
}

/** Tells the path that a request means, whatever its method: for 405 instead of 404, and for the names of spans. */
export class PathTable {
  readonly #known = new Map<string, KnownPath>();
  /** Paths by their number of segments, those with the fewest parameters first: a request asks several times. */
  readonly #bySegments = new Map<number, { pattern: RegExp; known: KnownPath }[]>();

  /** Adds one operation; `template` as OpenAPI writes it. */
  add(method: string, template: string): void {
    const known = this.#known.get(template);
    if (known) return void known.methods.add(method.toUpperCase());
    const added = { template, methods: new Set([method.toUpperCase()]) };
    this.#known.set(template, added);
    const segments = template.split("/").length;
    const paths = this.#bySegments.get(segments) ?? [];
    paths.push({ pattern: patternOf(template), known: added });
    paths.sort((one, other) => parameters(one.known) - parameters(other.known));
    this.#bySegments.set(segments, paths);
  }

  /** The known path that `path` matches; undefined when there is none. Fixed segments win over parameters. */
  find(path: string): KnownPath | undefined {
    return this.#bySegments.get(path.split("/").length)?.find(({ pattern }) => pattern.test(path))?.known;
  }
}

function parameters(known: KnownPath): number {
  return known.template.split("{").length;
}

function patternOf(template: string): RegExp {
  const segments = template.split("/").map((segment) =>
    segment.startsWith("{") ? "[^/]+" : segment.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")
  );
  return new RegExp(`^${segments.join("/")}$`);
}
