// The page Recognise: photos in, names out.
import { takePhoto } from "./camera.js";
import { onBack } from "./connection.js";
import { announce, byId, plural } from "./dom.js";
import { onKeyChange } from "./key.js";
import { kindOf } from "./pictures.js";
import { each } from "./pool.js";
import { Shot } from "./shot.js";
import { ThresholdSlider } from "./threshold.js";

const MOST = 50; // photos on the page
const AT_ONCE = 2;

const threshold = new ThresholdSlider("threshold");
const shots = new Set();
let active = false;

async function add(files) {
  const pictures = [...files].filter((file) => kindOf(file));
  if (!pictures.length) return announce("That is not a picture.");
  const fresh = pictures.slice(0, MOST).map((file) => {
    const shot = new Shot(file, threshold, () => remove(shot));
    return shot;
  });
  for (const shot of [...fresh].reverse()) byId("shots").prepend(shot.node);
  for (const shot of fresh) shots.add(shot);
  for (const shot of [...shots].slice(0, Math.max(0, shots.size - MOST))) remove(shot);
  summarise();
  if (pictures.length > MOST) announce(`Only the first ${MOST} photos are taken.`);
  await recognise(fresh);
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

function summarise() {
  const [known, all] = [...shots].map((shot) => shot.counts).reduce(([k, n], [a, b]) => [k + a, n + b], [0, 0]);
  byId("shots-head").hidden = shots.size === 0;
  byId("shots-summary").textContent = `${plural(shots.size, "photo")}, ${plural(all, "face")}, ${known} named`;
}

const again = () => recognise([...shots].filter((shot) => shot.waits));
const load = () => threshold.load().catch(() => { /* Shown by whatever is asked next; the slider keeps its place. */ });

let telling = null;
threshold.addEventListener("change", () => {
  for (const shot of shots) shot.relabel();
  summarise();
  clearTimeout(telling);
  if (shots.size) telling = setTimeout(() => announce(byId("shots-summary").textContent), 500);
});

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
    if (kind === "drop" && active) add(event.dataTransfer.files);
  });
}
onBack(() => { load(); again(); });
onKeyChange(() => { load(); again(); });
load();

export function show() { active = true; }
export function hide() { active = false; }
