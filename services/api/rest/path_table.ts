/** One path of the API with its methods. */
export interface KnownPath {
  /** As OpenAPI writes it: `/v1/sandboxes/{sandbox_id}`. */
  template: string;
  /** Upper case, without HEAD. */
  methods: Set<string>;
}

/** Tells the path that a request means, whatever its method: for 405 instead of 404, and for the names of spans. */
export class PathTable {
  readonly #paths = new Map<string, { pattern: RegExp; known: KnownPath }>();

  /** Adds one operation; `template` as OpenAPI writes it. */
  add(method: string, template: string): void {
    const entry = this.#paths.get(template) ??
      { pattern: patternOf(template), known: { template, methods: new Set() } };
    entry.known.methods.add(method.toUpperCase());
    this.#paths.set(template, entry);
  }

  /** The known path that `path` matches; undefined when there is none. Fixed segments win over parameters. */
  find(path: string): KnownPath | undefined {
    let found: KnownPath | undefined;
    for (const { pattern, known } of this.#paths.values()) {
      if (pattern.test(path) && (found === undefined || parameters(known) < parameters(found))) found = known;
    }
    return found;
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
