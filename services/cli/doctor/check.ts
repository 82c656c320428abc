/** What a look at the machine found. "limited": it works, at a cost that `cost` names. */
export interface Check {
  name: string;
  state: "ok" | "limited" | "missing" | "unknown";
  /** What was found. */
  found: string;
  /** What it means when it is not ok. */
  cost?: string;
}
