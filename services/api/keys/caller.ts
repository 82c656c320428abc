/** Who calls: the team that the API key belongs to owns what the call makes and sees only what it owns. */
export interface Caller {
  teamId: string;
  keyId: string;
  /** true: the operator of the deployment, who has its internal token. */
  admin: boolean;
}
