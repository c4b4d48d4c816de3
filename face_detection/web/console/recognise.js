// The page Recognise: photos in, names out.
import { each } from "./api.js";
import { takePhoto } from "./camera.js";
import { drawRates } from "./chart.js";
import { onBack } from "./connection.js";
import { often } from "./curve.js";
import { announce, byId, note, plural, short } from "./dom.js";
import { onKeyChange } from "./key.js";
import { Shot } from "./shot.js";
import { ThresholdSlider } from "./threshold.js";
import { formatOf } from "../formats.js";

const MOST = 50; // photos on the page
const NAMED = 10; // files that are left out
const AT_ONCE = 2;

const threshold = new ThresholdSlider("threshold");
const shots = new Set();
let active = false;

async function add(files) {
  const chosen = [...files]; // a list of the page's own does not outlive the event
  const formats = await Promise.all(chosen.map(formatOf));
  const pictures = chosen.filter((_, index) => formats[index]);
  leave(chosen.filter((_, index) => !formats[index]), pictures.length - MOST);
  const fresh = pictures.slice(0, MOST).map((file) => {
    const shot = new Shot(file, threshold, looking, () => remove(shot));
    return shot;
  });
  for (const shot of [...fresh].reverse()) byId("shots").prepend(shot.node);
  for (const shot of fresh) shots.add(shot);
  for (const shot of [...shots].slice(0, Math.max(0, shots.size - MOST))) remove(shot);
  summarise();
  await recognise(fresh);
}

/** How the service is asked to look at photos: parameters that are not its defaults. */
const looking = () => ({
  ...(byId("detection").value ? { detection: byId("detection").value } : {}),
  ...(byId("liveness").checked ? { liveness: "true" } : {}),
});

/** Say what is left out: files that are no pictures, and how many pictures are too many. */
function leave(others, tooMany) {
  const said = [];
  if (others.length) said.push(`Left out, since they are no pictures: ${others.slice(0, NAMED).map((file) => file.name).join(", ")}${others.length > NAMED ? ` and ${others.length - NAMED} more` : ""}.`);
  if (tooMany > 0) said.push(`Only the first ${MOST} photos are taken.`);
  note(byId("left-out"), said.join(" "), "bad");
}

async function recognise(some) {
  await each(some, AT_ONCE, async (shot) => {
    if (!shots.has(shot)) return;
    await shot.recognise();
    summarise();
    announce(shot.summary);
  });
}

function remove(shot) {
  shots.delete(shot);
  shot.close();
  summarise();
}

function takeChosen() {
  add(byId("photos").files);
  byId("photos").value = "";
}

function takeDropped(data) {
  if (data.files.length) add(data.files);
  else note(byId("left-out"), "That is no file, and the service fetches nothing: save the picture first, then drop the file.", "bad");
}

function summarise() {
  const [known, all] = [...shots].map((shot) => shot.counts).reduce(([k, n], [a, b]) => [k + a, n + b], [0, 0]);
  byId("shots-head").hidden = shots.size === 0;
  byId("shots-summary").textContent = `${plural(shots.size, "photo")}, ${plural(all, "face")}, ${known} named`;
}

/** The curve with the threshold on it. */
function drawThreshold() {
  const { curve, value } = threshold;
  byId("threshold-figure").hidden = curve === null;
  if (curve === null) return;
  const at = (distance) => `${often(curve.rate(distance))} strangers and ${Math.round(100 * curve.accepted(distance))} % of pairs of photos of one person`;
  byId("threshold-figure").firstElementChild.textContent =
    `Nearer than ${short(value)}, in a gallery of this size, are ${at(value)} (dashed).`;
  drawRates(byId("threshold-chart"), curve, value, curve.rates.map((rate) => curve.distance(rate)).map((distance) => `Nearer than ${short(distance)}: ${at(distance)}.`).join(" "));
}

const again = () => recognise([...shots].filter((shot) => shot.waits));
const load = () => threshold.load().catch(() => { /* Shown by whatever is asked next; the slider keeps its place. */ });

let telling = null;
threshold.addEventListener("change", () => {
  drawThreshold();
  for (const shot of shots) shot.relabel();
  summarise();
  clearTimeout(telling);
  if (shots.size) telling = setTimeout(() => announce(byId("shots-summary").textContent), 500);
});

new ResizeObserver(drawThreshold).observe(byId("threshold-figure"));
byId("liveness").onchange = byId("detection").onchange = () => recognise([...shots]);
byId("photos").onchange = takeChosen;
if (byId("photos").files.length) takeChosen(); // chosen before this was loaded
byId("take-photo").onclick = async () => {
  const photo = await takePhoto();
  if (photo) add([photo]);
};
byId("clear-shots").onclick = () => {
  for (const shot of [...shots]) remove(shot);
  byId("photos").focus();
};
document.addEventListener("paste", (event) => {
  if (active && event.clipboardData.files.length) add(event.clipboardData.files);
});
// The whole window takes photos, so that one that misses the field does not replace the page.
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    byId("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && active) takeDropped(event.dataTransfer);
  });
}
onBack(() => { load(); again(); });
onKeyChange(() => { load(); again(); });

export function show() {
  active = true;
  load(); // the gallery may have grown, and with it what a distance means
}
export function hide() { active = false; }
