// The page Status: what runs, how much it does and how fast, and what happened.
import { json, request } from "./api.js";
import { Chart } from "./chart.js";
import { onBack } from "./connection.js";
import { byId, element, note } from "./dom.js";
import { failEvents, followEvents, loadEvents } from "./event-list.js";
import { onKeyChange } from "./key.js";

const EVERY = 2; // seconds
const SHOWN = 90; // values in a chart
// What looking causes is not what is looked at; a live session is one request however long it lasts.
const OWN = /^(\/(|livez|readyz|metrics|events|events\/\{number\}\/crop|live|docs|openapi\.json|static.*)|unknown)$/;
// Prometheus' text format, as far as the service writes it.
const LINE = /^([a-z_0-9]+)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-z_0-9]+)="((?:[^"\\]|\\.)*)"/g;

const rate = new Chart(byId("rate-chart"), ["first", "second"], SHOWN, EVERY);
const latency = new Chart(byId("latency-chart"), ["first", "second"], SHOWN, EVERY);
const forbidden = new Set(); // what this key may not ask for
let active = false;
let timer = null;
let before = null;
let polling = false;
let wanted = false; // another round at once

async function poll() {
  clearTimeout(timer);
  if (polling) {
    wanted = true;
    return;
  }
  polling = true;
  let pause = EVERY;
  if (!document.hidden) {
    for (const [name, ask, fail] of [["facts", facts, failFacts], ["metrics", metrics, failMetrics], ["events", loadEvents, failEvents]]) {
      if (forbidden.has(name) || !active) continue;
      try {
        await ask();
      } catch (error) {
        fail(error.message, error);
        if ([401, 403].includes(error.status)) forbidden.add(name);
        pause = Math.max(pause, error.status === 429 ? error.retryAfter : 0);
        if (error.gone) break;
      }
    }
  }
  polling = false;
  if (active) timer = setTimeout(poll, wanted ? 0 : pause * 1000);
  wanted = false;
}

function showFacts(entries) {
  byId("facts").replaceChildren(...entries.map(([name, value]) => element("div", {}, element("dt", { textContent: name }), element("dd", {}, value))));
}

const badge = (text, kind) => element("span", { className: `badge ${kind}`, textContent: text });

// Samples up to which a model suits, as the README says; those that are not here suit any gallery, or were not measured.
const MOST = { facenet: 100, dlib: 100, sface: 1000 };

/** What to say of a model for a gallery of so many samples, null for nothing. */
export const advise = (model, samples) =>
  samples > (MOST[model] ?? Infinity) ? "For so many samples sface+dlib errs less: set MODEL, and enrol them again." : null;

async function facts() {
  const ready = await json("/readyz");
  const device = /cuda|gpu|tensorrt/i.test(ready.device) ? `GPU (${ready.device})` : ready.device.toUpperCase();
  showFacts([["Front", badge("answers", "good")], ["Extraction", badge("ready", "good")], ["Version", ready.version], ["Model", modelFact(ready)], ["Engine", ready.engine], ["Device", device],
    ["Distance", ready.distance], ["Default threshold", String(ready.min_distance)], ["Samples in the gallery", ready.samples === undefined ? "needs a key" : ready.samples.toLocaleString("en")],
    ...(ready.people_of_other_models ? [["Not found by this model", element("span", {}, badge(ready.people_of_other_models.toLocaleString("en"), "warn"), " people have photos of other models only")]] : [])]);
}

function modelFact({ model, samples }) {
  const advice = advise(model, samples ?? 0);
  return advice ? element("span", {}, badge(model, "warn"), ` ${advice}`) : model;
}

function failFacts(message, error) {
  if (error.gone) return showFacts([["Front", badge("does not answer", "bad")]]);
  const extraction = error.code?.startsWith("extraction");
  showFacts([["Front", badge("answers", extraction ? "good" : "warn")], [extraction ? "Extraction" : "Ready", element("span", {}, badge("not ready", "bad"), ` ${message}`)]]);
}

async function metrics() {
  const samples = parse(await (await request("/metrics")).text());
  const others = ({ route }) => !OWN.test(route);
  const now = {
    at: performance.now(), requests: total(samples, "front_requests_total", others), faces: total(samples, "front_faces_total"),
    seconds: buckets(samples, "front_request_seconds", others),
  };
  note(byId("metrics-note"), "");
  showStages(samples);
  // After a restart counters begin anew.
  if (before && now.requests >= before.requests && now.faces >= before.faces) showChange(before, now);
  before = now;
}

function showChange(former, now) {
  const seconds = (now.at - former.at) / 1000;
  const perSecond = (name) => (now[name] - former[name]) / seconds;
  rate.add(perSecond("requests"), perSecond("faces"));
  const words = `${perSecond("requests").toFixed(1)} requests/s, ${perSecond("faces").toFixed(1)} faces/s (dashed)`;
  byId("rate-now").textContent = words;
  rate.draw(`Throughput: ${words}`);
  const [half, most] = [0.5, 0.95].map((part) => quantile(former.seconds, now.seconds, part)).map((value) => (value === null ? null : value * 1000));
  latency.add(half, most);
  const shown = half === null ? "no requests just now" : `median ${half.toFixed(0)} ms, 95 % below ${most.toFixed(0)} ms (dashed)`;
  byId("latency-now").textContent = shown;
  latency.draw(`Latency in milliseconds: ${shown}`);
}

function showStages(samples) {
  const stages = (samples.get("front_stage_seconds_count") ?? []).filter(({ value }) => value > 0).map(({ labels, value }) => {
    const sum = total(samples, "front_stage_seconds_sum", (other) => other.stage === labels.stage);
    return [labels.stage, (1000 * sum) / value];
  });
  const longest = Math.max(...stages.map(([, mean]) => mean), 1e-9);
  byId("stages").replaceChildren(...stages.map(([stage, mean]) => {
    const fill = element("i");
    fill.style.width = `${(100 * mean) / longest}%`;
    return element("div", {}, element("span", { textContent: stage }), element("span", { className: "meter", ariaHidden: "true" }, fill),
      element("span", { className: "mono", textContent: `${mean.toFixed(mean < 10 ? 1 : 0)} ms` }));
  }), ...(stages.length ? [] : [element("p", { className: "muted small", textContent: "Nothing has been done yet." })]));
}

function failMetrics(message) {
  before = null;
  note(byId("metrics-note"), `Metrics: ${message}`, "bad");
}

const again = () => {
  forbidden.clear();
  if (active) poll();
};
followEvents(again);
onBack(again);
onKeyChange(again);

export function show() {
  active = true;
  before = null;
  rate.draw("Throughput: nothing measured yet");
  latency.draw("Latency: nothing measured yet");
  poll();
}

export function hide() {
  active = false;
  clearTimeout(timer);
}

// Prometheus' text format, as far as the service writes it.
/** Samples by name: lists of {labels, value}. */
function parse(text) {
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
const total = (samples, name, wanted = () => true) =>
  (samples.get(name) ?? []).filter(({ labels }) => wanted(labels)).reduce((sum, { value }) => sum + value, 0);

/** Counts of a histogram up to each bound, ascending: [bound, count]. */
function buckets(samples, name, wanted = () => true) {
  const counts = new Map();
  for (const { labels, value } of samples.get(`${name}_bucket`) ?? []) {
    if (!wanted(labels)) continue;
    const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
    counts.set(bound, (counts.get(bound) ?? 0) + value);
  }
  return [...counts].sort(([a], [b]) => a - b);
}

/** A quantile of what was counted between two states of a histogram, interpolated within its bucket; null for nothing. */
function quantile(before, after, part) {
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
