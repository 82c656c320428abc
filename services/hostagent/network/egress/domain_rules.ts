const LABEL = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/;
const MAX_NAME_LENGTH = 253;

/**
 * A domain name in the one form that is compared: lower case, ASCII, two labels or more, no dot at its end. Undefined for what is
 * none; an IP address is none.
 */
export function domainName(text: string): string | undefined {
  if (text.length > MAX_NAME_LENGTH) return undefined;
  const name = text.toLowerCase();
  const labels = name.split(".");
  if (labels.length < 2 || !labels.every((label) => LABEL.test(label))) return undefined;
  // No top-level domain is a number: 10.0.0.1, and 0x7f.1 of those who read that as an address.
  return /^(\d+|0x[0-9a-f]*)$/.test(labels.at(-1)!) ? undefined : name;
}

/** What a sandbox may reach by name. */
export class DomainRules {
  readonly #exact = new Set<string>();
  readonly #below = new Set<string>();

  /** @param domains `example.com` or `*.example.com`. @throws RangeError for another form. */
  constructor(domains: readonly string[]) {
    for (const domain of domains) {
      const wildcard = domain.startsWith("*.");
      const name = domainName(wildcard ? domain.slice(2) : domain);
      if (name === undefined) throw new RangeError(`not a domain: ${JSON.stringify(domain.slice(0, 300))}`);
      (wildcard ? this.#below : this.#exact).add(name);
    }
  }

  /** @param name in the form of {@linkcode domainName}. A wildcard matches any depth below its name, not the name itself. */
  allows(name: string): boolean {
    if (this.#exact.has(name)) return true;
    for (let dot = name.indexOf("."); dot !== -1; dot = name.indexOf(".", dot + 1)) {
      if (this.#below.has(name.slice(dot + 1))) return true;
    }
    return false;
  }
}
