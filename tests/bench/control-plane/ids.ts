/** Ids by number, so that the benchmark, its hosts and its database agree without telling each other. */
export const hostId = (host: number) => `h${String(host).padStart(19, "0")}`;

export const sandboxId = (host: number, sandbox: number) =>
  `s${String(host).padStart(6, "0")}x${String(sandbox).padStart(12, "0")}`;
