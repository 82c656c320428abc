import { domainToASCII } from "node:url";

/** Of ASCII only what names of hosts are made of: no "%41", "@", ":" or blank that a reader might interpret. */
const ODD_ASCII = /[^a-z0-9._\-\u0080-\u{10ffff}]/iu;
const LABEL = /^(?!-)[a-z0-9_-]{1,63}(?<!-)$/;
const WILDCARD = "*.";

/**
 * Reads a rule about domains: `example.com` means that name alone, `*.example.com` every name below it and not itself.
 * Unicode names become their ASCII form (UTS 46), a trailing dot goes.
 * @returns the rule in lower-case ASCII, or what is wrong with the text.
 */
export function parseDomainRule(text: string): string | { problem: string } {
  const wildcard = text.startsWith(WILDCARD) ? WILDCARD : "";
  const name = text.slice(wildcard.length).replace(/\.$/, "");
  if (name.includes("*")) return { problem: 'may have a "*" only as its whole first label' };
  if (name === "" || ODD_ASCII.test(name)) return { problem: "is no domain name" };
  const ascii = domainToASCII(name);
  const labels = ascii.split(".");
  if (ascii.length > 253 || !labels.every((label) => LABEL.test(label))) return { problem: "is no domain name" };
  if (labels.length < 2) return { problem: "must have at least two labels" };
  // "1.2.3.4.5" and "0x7f.1" are what some readers take for addresses.
  if (/^(?:\d+|0x[0-9a-f]*)$/.test(labels.at(-1)!)) return { problem: "is no domain name and no IP address" };
  return wildcard + ascii;
}

/** True when a rule of {@linkcode parseDomainRule} covers a name in lower-case ASCII without a trailing dot. */
export function matchesDomainRule(rule: string, name: string): boolean {
  return rule.startsWith(WILDCARD) ? name.endsWith(rule.slice(1)) && name.length >= rule.length : name === rule;
}
