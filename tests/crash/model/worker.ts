// Runs histories of the model in a process of its own, and prints what they came to as one line of JSON.
import { runModel } from "./run_model.ts";

const [sequences, seed] = Deno.args.map(Number) as [number, number];
const report = await runModel({ sequences, seed, onSequence: () => console.error("sequence") });
console.log(JSON.stringify(report));
