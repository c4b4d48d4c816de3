// Prometheus' text format, as far as the service writes it.

const LINE = /^([a-z_0-9]+)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-z_0-9]+)="((?:[^"\\]|\\.)*)"/g;

/** Samples by name: lists of {labels, value}. */
export function parse(text) {
  const samples = new Map();
  for (const line of text.split("\n")) {
    const found = line.startsWith("#") ? null : LINE.exec(line);
    if (!found) continue;
    const labels = Object.fromEntries([...(found[2] ?? "").matchAll(LABEL)].map((label) => [label[1], label[2]]));
    if (!samples.has(found[1])) samples.set(found[1], []);
    samples.get(found[1]).push({ labels, value: Number(found[3]) });
  }
  return samples;
}

/** Sum of the samples of a name that a condition on their labels lets pass. */
export const total = (samples, name, wanted = () => true) =>
  (samples.get(name) ?? []).filter(({ labels }) => wanted(labels)).reduce((sum, { value }) => sum + value, 0);

/** Counts of a histogram up to each bound, ascending: [bound, count]. */
export function buckets(samples, name, wanted = () => true) {
  const counts = new Map();
  for (const { labels, value } of samples.get(`${name}_bucket`) ?? []) {
    if (!wanted(labels)) continue;
    const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
    counts.set(bound, (counts.get(bound) ?? 0) + value);
  }
  return [...counts].sort(([a], [b]) => a - b);
}

/** A quantile of what was counted between two states of a histogram, interpolated within its bucket; null for nothing. */
export function quantile(before, after, part) {
  const former = new Map(before);
  const counts = after.map(([bound, count]) => [bound, count - (former.get(bound) ?? 0)]);
  const all = counts.at(-1)?.[1] ?? 0;
  if (all <= 0) return null;
  const wanted = part * all;
  let [below, passed] = [0, 0];
  for (const [bound, count] of counts) {
    if (count >= wanted) return bound === Infinity ? below : below + ((bound - below) * (wanted - passed)) / (count - passed || 1);
    [below, passed] = [bound, count];
  }
  return below;
}
