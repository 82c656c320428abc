/** Waits until something has ended, well or not, but at most `ms`. */
export async function upTo(ms: number, work: Promise<unknown>): Promise<void> {
  const time = Promise.withResolvers<void>();
  const timer = setTimeout(time.resolve, ms);
  try {
    await Promise.race([Promise.allSettled([work]), time.promise]);
  } finally {
    clearTimeout(timer);
  }
}
