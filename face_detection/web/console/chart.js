// Charts as SVG: lines of the last minutes, and rates over the distance.

const NAMESPACE = "http://www.w3.org/2000/svg";
const HEIGHT = 144, LEFT = 44, RIGHT = 6, TOP = 8, BOTTOM = 18;
const SIDE = 52; // left and right of rates
const STEPS = 100; // of a curve

const shape = (name, attributes, text = "") => {
  const node = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
};

/** The least of 1, 2, 5, 10, 20 … that is not less than a value. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

export class Chart {
  #target; #lines; #length; #seconds;

  /** `lines` are the class names of the series; `length` values are shown, `seconds` apart. */
  constructor(target, lines, length, seconds) {
    this.#target = target;
    this.#lines = lines.map((name) => ({ name, values: [] }));
    this.#length = length;
    this.#seconds = seconds;
  }

  /** Add one value to each series; null where there is none. */
  add(...values) {
    this.#lines.forEach((line, index) => { line.values = [...line.values, values[index]].slice(-this.#length); });
  }

  /** Draw; `label` says the same in words. */
  draw(label) {
    const width = this.#target.clientWidth || 320, height = HEIGHT;
    const most = roundUp(Math.max(1e-3, ...this.#lines.flatMap((line) => line.values.map((value) => value ?? 0))));
    const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
    const across = (index, count) => LEFT + ((width - LEFT - RIGHT) * (this.#length - count + index)) / (this.#length - 1);
    const up = (value) => height - BOTTOM - ((height - TOP - BOTTOM) * value) / most;
    for (const part of [0, 0.5, 1]) {
      svg.append(shape("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: up(part * most), y2: up(part * most) }));
      svg.append(shape("text", { x: LEFT - 6, y: up(part * most) + 4, "text-anchor": "end" }, String(Number((part * most).toPrecision(3)))));
    }
    svg.append(shape("text", { x: LEFT, y: height - 3 }, `${Math.round((this.#length * this.#seconds) / 60)} min ago`));
    svg.append(shape("text", { x: width - RIGHT, y: height - 3, "text-anchor": "end" }, "now"));
    for (const { name, values } of this.#lines) {
      let path = "", pen = false;
      values.forEach((value, index) => {
        if (value === null) pen = false;
        else {
          const [x, y] = [across(index, values.length).toFixed(1), up(value).toFixed(1)];
          // A value between gaps is drawn as a dot: a line of no length with round ends.
          path += pen ? `L${x} ${y}` : `M${x} ${y}h.01`;
          pen = true;
        }
      });
      svg.append(shape("path", { class: `line ${name}`, d: path, "stroke-linecap": "round" }));
    }
    this.#target.replaceChildren(svg);
  }
}

/**
 * Draw a curve with a threshold on it; `label` says the same in words.
 *
 * The rate of strangers, on a logarithmic scale to the left, is the class `first`; that of the same person, to the right,
 * `second`. Nothing is drawn where nothing was measured.
 */
export function drawRates(target, curve, threshold, label) {
  const width = target.clientWidth || 320;
  const svg = shape("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": label });
  const [nearest, farthest] = curve.range;
  const low = Math.min(nearest, threshold), high = Math.max(farthest, threshold);
  const decades = Math.max(1, Math.ceil(-Math.log10(curve.rate(nearest))));
  const across = (distance) => SIDE + ((width - 2 * SIDE) * (distance - low)) / (high - low);
  const up = (share) => HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share;
  const first = (distance) => up(1 + Math.log10(curve.rate(distance)) / decades), second = (distance) => up(curve.accepted(distance));
  const percent = (share) => `${Number((100 * share).toPrecision(3))} %`;
  for (let decade = 0; decade <= decades; decade++) {
    const y = up(1 - decade / decades);
    svg.append(shape("line", { class: "grid", x1: SIDE, x2: width - SIDE, y1: y, y2: y }));
    svg.append(shape("text", { x: SIDE - 6, y: y + 4, "text-anchor": "end" }, percent(10 ** -decade)));
  }
  for (const part of [0, 0.5, 1]) svg.append(shape("text", { x: width - SIDE + 6, y: up(part) + 4 }, percent(part)));
  const step = roundUp((high - low) / 6);
  for (let index = Math.ceil(low / step); index * step <= high; index++) {
    svg.append(shape("text", { x: across(index * step), y: HEIGHT - 3, "text-anchor": "middle" }, String(Number((index * step).toPrecision(3)))));
  }
  const distances = Array.from({ length: STEPS + 1 }, (_, index) => nearest + ((high - nearest) * index) / STEPS);
  for (const [name, height] of [["first", first], ["second", second]]) {
    const d = distances.map((distance, index) => `${index ? "L" : "M"}${across(distance).toFixed(1)} ${height(distance).toFixed(1)}`).join("");
    svg.append(shape("path", { class: `line ${name}`, d }));
    if (threshold >= nearest) svg.append(shape("circle", { class: name, cx: across(threshold), cy: height(threshold), r: 4 }));
  }
  svg.append(shape("line", { class: "mark", x1: across(threshold), x2: across(threshold), y1: TOP, y2: HEIGHT - BOTTOM }));
  target.replaceChildren(svg);
}
