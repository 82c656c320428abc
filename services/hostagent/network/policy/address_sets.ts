import { type Cidr, disjoint, parseCidr } from "@torpor/network";

/** IP ranges of both families as nftables wants them: in order, none within another. */
export interface AddressSets {
  v4: string[];
  v6: string[];
}

/** The IP addresses and CIDRs of a list; domains are left out. */
export function addressSets(entries: readonly string[]): AddressSets {
  const ranges = disjoint(
    entries.map((entry) => parseCidr(entry)).filter((range): range is Cidr => !("problem" in range)),
  );
  const of = (family: 4 | 6) => ranges.filter((range) => range.family === family).map(({ text }) => text);
  return { v4: of(4), v6: of(6) };
}

/** One rule for each family that has addresses: `<ip> <field> { … } <verdict>`. */
export function matching(field: string, sets: AddressSets, verdict: string): string[] {
  return [
    ...sets.v4.length > 0 ? [`${field.replace("$ip", "ip")} { ${sets.v4.join(", ")} } ${verdict}`] : [],
    ...sets.v6.length > 0 ? [`${field.replace("$ip", "ip6")} { ${sets.v6.join(", ")} } ${verdict}`] : [],
  ];
}
