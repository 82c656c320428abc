/** Who calls: the team that the API key belongs to owns what the call makes and sees only what it owns. */
export interface Caller {
  teamId: string;
  keyId: string;
  /** true: the operator of the deployment, who has its internal token. */
  admin: boolean;
  /** What the key may do. */
  scopes: readonly string[];
  /** This call of the caller. */
  call: CallNote;
}

/** What becomes known of a call while it is handled. */
export interface CallNote {
  /** Also the id of its entry in the audit log. */
  requestId: string;
  /** The id or name of what it is about; "" while there is none. */
  target: string;
}
