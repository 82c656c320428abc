/** Where the job disk has things, seen from inside the machine. */
export const PATHS = {
  job: "/job/job.json",
  deno: "/job/deno",
  hostAgent: "/job/hostagent.js",
  native: "/job/native",
  cache: "/job/cache",
  home: "/job/home",
  socket: "/job/home/agent.sock",
  agentLog: "/job/out/hostagent.log",
} as const;
