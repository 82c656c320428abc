import { TorporError } from "@torpor/errors";

/**
 * A body of the announced length: a file that grew while it was read is cut there, one that shrank breaks the body.
 * @param length bytes; undefined: whatever comes.
 * @param release called once, when the body has ended, broken or been cancelled.
 */
export function limitedBody(
  source: ReadableStream<Uint8Array>,
  length: number | undefined,
  release: () => Promise<void>,
): ReadableStream<Uint8Array> {
  const reader = source.getReader();
  let left = length ?? Infinity;
  const finish = async () => {
    await reader.cancel();
    await release();
  };
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (done && length !== undefined && left > 0) {
          throw new TorporError("file_precondition", "the file became shorter while it was read");
        }
        const piece = value?.subarray(0, left);
        left -= piece?.length ?? 0;
        if (piece?.length) controller.enqueue(piece);
        if (!done && left > 0) return;
        await finish();
        controller.close();
      } catch (error) {
        await release();
        controller.error(error);
      }
    },
    cancel: finish,
  }, { highWaterMark: 0 });
}
