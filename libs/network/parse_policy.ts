import { TorporError } from "@torpor/errors";
import { parseCidr } from "./cidr.ts";
import { parseDomainRule } from "./domain_rule.ts";
import { deniesByDefault, type NetworkPolicy } from "./network_policy.ts";
import { isReservedRange } from "./reserved.ts";

/** Entries of each list. */
export const MAX_POLICY_ENTRIES = 512;

/** Characters of an entry: "*." and the longest name of a domain with its last dot. */
const MAX_ENTRY_LENGTH = 256;

/**
 * Checks what a sandbox is to reach and brings it into one form: addresses and domains as short as they can be, each once.
 * @param input what is left out is as in DEFAULT_POLICY.
 * @param prefix of the fields that errors name, as "network.".
 * @throws TorporError `invalid_argument` with the entry at fault (`network.allow_out.3`).
 */
export function parsePolicy(input: Partial<NetworkPolicy>, prefix = "network."): NetworkPolicy {
  const { allowInternetAccess = true, allowOut = [], denyOut = [] } = input;
  const allow = entries(allowOut, `${prefix}allow_out`, allowedEntry);
  const policy = {
    allowInternetAccess: Boolean(allowInternetAccess),
    allowOut: allow.map(({ text }) => text),
    denyOut: entries(denyOut, `${prefix}deny_out`, deniedEntry).map(({ text }) => text),
  };
  const domain = allow.find(({ isDomain }) => isDomain);
  if (domain && !deniesByDefault(policy)) {
    throw new TorporError("invalid_argument", `${domain.field}: a domain means nothing while everything is allowed`, {
      field: domain.field,
      hint: 'set allow_internet_access to false, or deny_out to ["0.0.0.0/0"]',
    });
  }
  return policy;
}

/** The domains of an `allowOut`. */
export function domainsOf({ allowOut }: Pick<NetworkPolicy, "allowOut">): string[] {
  return allowOut.filter((entry) => "problem" in parseCidr(entry));
}

interface Entry {
  /** Its place, for errors. */
  field: string;
  text: string;
  isDomain: boolean;
}

type Parsed = { text: string; isDomain: boolean } | { problem: string };

function entries(list: readonly string[], field: string, parse: (text: string) => Parsed): Entry[] {
  if (!Array.isArray(list)) throw invalid(field, "must be a list");
  if (list.length > MAX_POLICY_ENTRIES) throw invalid(field, `must have at most ${MAX_POLICY_ENTRIES} entries`);
  const found = new Map<string, Entry>();
  for (const [index, text] of list.entries()) {
    const at = `${field}.${index}`;
    if (typeof text !== "string" || text.length > MAX_ENTRY_LENGTH) {
      throw invalid(at, `must be text of at most ${MAX_ENTRY_LENGTH} characters`);
    }
    const entry = parse(text);
    if ("problem" in entry) throw invalid(at, entry.problem);
    if (!found.has(entry.text)) found.set(entry.text, { field: at, ...entry });
  }
  return [...found.values()];
}

function allowedEntry(text: string): Parsed {
  if (!looksLikeAddress(text)) {
    const rule = parseDomainRule(text);
    return typeof rule === "string" ? { text: rule, isDomain: true } : rule;
  }
  const range = parseCidr(text);
  if ("problem" in range) return range;
  if (isReservedRange(range)) return { problem: "is in a range that no sandbox may reach" };
  return { text: range.text, isDomain: false };
}

function deniedEntry(text: string): Parsed {
  const range = parseCidr(text);
  if (!("problem" in range)) return { text: range.text, isDomain: false };
  return looksLikeAddress(text) ? range : { problem: "must be an IP address or a CIDR: domains can only be allowed" };
}

/** What no name of a domain can be. */
function looksLikeAddress(text: string): boolean {
  return /[:/]/.test(text) || /^[0-9.]*$/.test(text);
}

function invalid(field: string, problem: string): TorporError {
  return new TorporError("invalid_argument", `${field}: ${problem}`, { field });
}
