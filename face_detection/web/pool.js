// Work on many things, a few at a time.

/** Call `work` for each item, at most `width` at a time, in order of the items, until the signal aborts. */
export async function each(items, width, work, signal) {
  const waiting = items[Symbol.iterator]();
  const worker = async () => {
    for (const item of waiting) {
      if (signal?.aborted) return;
      await work(item);
    }
  };
  await Promise.all(Array.from({ length: width }, worker));
}
