// A line chart of the last minutes, as SVG.

const NAMESPACE = "http://www.w3.org/2000/svg";
const LEFT = 44, RIGHT = 6, TOP = 8, BOTTOM = 18;

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
    const width = this.#target.clientWidth || 320, height = 144;
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
