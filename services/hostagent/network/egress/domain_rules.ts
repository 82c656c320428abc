import { matchesDomainRule, parseDomainRule } from "@torpor/network";

const LABEL = /^(?!-)[a-z0-9_-]{1,63}(?<!-)$/;
const MAX_NAME_LENGTH = 253;

/**
 * The domain name that a client asks for, in the one form that is compared: lower case, two labels or more. Undefined for what is
 * none: IP addresses, names that are not ASCII or end with a dot; clients do not send them, as servers need not know them.
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
  readonly #rules: readonly string[];

  /** @param domains in the form that `parseDomainRule` gives. @throws RangeError for another one. */
  constructor(domains: readonly string[]) {
    const odd = domains.find((domain) => parseDomainRule(domain) !== domain);
    if (odd !== undefined) throw new RangeError(`not a domain rule: ${JSON.stringify(odd.slice(0, 300))}`);
    this.#rules = domains;
  }

  /** @param name in the form of {@linkcode domainName}. */
  allows(name: string): boolean {
    return this.#rules.some((rule) => matchesDomainRule(rule, name));
  }
}
