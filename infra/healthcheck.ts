/** Exits with 0 when the URL of the first argument answers with success, else with 1: for containers without curl. */
try {
  const response = await fetch(Deno.args[0]!);
  await response.body?.cancel();
  Deno.exitCode = response.ok ? 0 : 1;
} catch (error) {
  // Not listening yet.
  console.error(String(error));
  Deno.exitCode = 1;
}
