/**
 * Deno 2.9.6 forgets the abort signal of a fetch at the first garbage collection after the response has begun: the body
 * of an aborted request then stays open, and the server goes on with it for ever. A cancelled reader is never forgotten,
 * so the abort becomes one here. Test: "an abort reaches the server after a garbage collection".
 */
export function withAbortableBody(response: Response, signal: AbortSignal | undefined): Response {
  if (response.body === null || signal === undefined) return response;
  const reader = response.body.getReader();
  const stop = new AbortController();
  const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
    start(controller) {
      const onAbort = () => {
        // A body that has failed or ended already has nothing left to cancel.
        reader.cancel(signal.reason).catch(() => {});
        controller.error(signal.reason);
      };
      if (signal.aborted) onAbort();
      else signal.addEventListener("abort", onAbort, { once: true, signal: stop.signal });
    },
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (!done) return controller.enqueue(value);
        controller.close();
      } catch (thrown) {
        controller.error(thrown);
      }
      stop.abort();
    },
    async cancel(reason) {
      stop.abort();
      await reader.cancel(reason);
    },
  }, { highWaterMark: 0 });
  const { status, statusText, headers } = response;
  return new Response(body, { status, statusText, headers });
}
