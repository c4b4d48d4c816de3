// Import of a folder: one sub-folder for each person.
import { addPhoto, deletePhoto, doubts, exists, showFace } from "./adding.js";
import { each } from "./api.js";
import { answered, byId, element, plural } from "./dom.js";
import { formatOf } from "../formats.js";

const AT_ONCE = 3;
const READ_AT_ONCE = 16;
const SHOWN = 1000; // failures in the table; all are counted

const dialog = byId("import-dialog");
let people = new Map(); // id to files
let strays = []; // [path, why] of files that are left out
let running = null;
let changed = false;

/** Let a folder be imported; whether the people have changed. */
export async function openImport() {
  changed = false;
  byId("import-files").value = "";
  await choose([]);
  await answered(dialog);
  running?.abort();
  return changed;
}

async function choose(files) {
  people = new Map();
  strays = [];
  byId("import-start").disabled = byId("import-files").disabled = true;
  const formats = new Map();
  await each(files, READ_AT_ONCE, async (file) => formats.set(file, await formatOf(file)));
  for (const file of files) {
    const folders = file.webkitRelativePath.split("/");
    // The chosen folder itself, the person, and the photo, which may lie deeper.
    if (!formats.get(file)) strays.push([file.webkitRelativePath, "No picture."]);
    else if (folders.length < 3) strays.push([file.webkitRelativePath, "In no sub-folder, which would be the person."]);
    else if (people.has(folders[1])) people.get(folders[1]).push(file);
    else people.set(folders[1], [file]);
  }
  const photos = [...people.values()].flat().length;
  byId("import-files").disabled = false;
  byId("import-start").disabled = photos === 0;
  listStrays();
  byId("import-progress").hidden = true;
  const others = strays.length ? ` ${plural(strays.length, "other file")} will be left out.` : "";
  byId("import-summary").textContent = !files.length ? ""
    : photos ? `${plural(people.size, "person", "people")} with ${plural(photos, "photo")}.${others}`
      : "There are no photos in sub-folders here.";
}

function listStrays() {
  byId("import-failures").querySelector("tbody").replaceChildren();
  byId("import-failures").hidden = true;
  for (const stray of strays) refuse(...stray);
}

/** Say what is wrong with a file, with the face that it is about, if it is about one; and what can be done. */
function refuse(what, why, { file, bbox, action } = {}) {
  const rows = byId("import-failures").querySelector("tbody");
  byId("import-failures").hidden = false;
  if (rows.childElementCount >= SHOWN) return;
  const crop = bbox ? element("canvas", { className: "face", width: 96, height: 96, ariaHidden: "true" }) : "";
  if (bbox) showFace(crop, file, bbox);
  rows.append(element("tr", {}, element("td", {}, crop, what), element("td", {}, why, ...(action ? [" ", action] : []))));
}

/** A button that takes a photo back. */
function takeBack(id, name, number) {
  const button = element("button", { className: "tight", type: "button", textContent: "Take it back", ariaLabel: `Take ${name} back` });
  button.onclick = async () => {
    button.disabled = true;
    try {
      await deletePhoto(id, number);
      button.replaceWith("Taken back.");
    } catch (error) {
      button.disabled = false;
      byId("import-summary").textContent = error.message;
    }
  };
  return button;
}

async function start() {
  running = new AbortController();
  const { signal } = running;
  const counts = { taken: 0, refused: 0, skipped: 0 };
  const all = [...people.values()].flat().length;
  const progress = byId("import-progress");
  listStrays();
  lock(true);
  [progress.max, progress.value, progress.hidden] = [all, 0, false];
  const show = () => { byId("import-summary").textContent = `${progress.value} of ${plural(all, "photo")} …`; };
  const give = async ([id, files]) => {
    try {
      if (byId("import-skip").checked && (await exists(id, signal))) {
        counts.skipped += 1;
        progress.value += files.length;
        return;
      }
    } catch (error) {
      if (signal.aborted) return;
      counts.refused += files.length;
      progress.value += files.length;
      return refuse(id, error.message);
    }
    for (const file of files) {
      if (signal.aborted) return;
      try {
        const photo = await addPhoto(id, id.replaceAll("_", " "), file, { signal });
        counts.taken += 1;
        changed = true;
        if (doubts(photo)) refuse(`${id}/${file.name}`, doubts(photo), { file, bbox: photo.bbox, action: takeBack(id, file.name, photo.number) });
      } catch (error) {
        if (signal.aborted) return;
        counts.refused += 1;
        refuse(`${id}/${file.name}`, error.message, { file, bbox: error.bbox });
        // Nothing else will do better: no right, no room, no service.
        if ([401, 403].includes(error.status) || error.gone) running.abort();
      }
      progress.value += 1;
      show();
    }
  };
  show();
  await each(people, AT_ONCE, give, signal);
  const said = [`${plural(counts.taken, "photo")} taken`, `${counts.refused} refused`];
  if (strays.length) said.push(`${plural(strays.length, "other file")} left out`);
  if (counts.skipped) said.push(`${plural(counts.skipped, "person", "people")} skipped`);
  byId("import-summary").textContent = `${signal.aborted ? "Stopped" : "Done"}: ${said.join(", ")}.`;
  lock(false);
  running = null;
}

function lock(on) {
  byId("import-start").disabled = on;
  byId("import-files").disabled = on;
  byId("import-skip").disabled = on;
  byId("import-cancel").textContent = on ? "Stop" : "Close";
}

byId("import-files").onchange = (event) => choose([...event.target.files]);
byId("import-start").onclick = start;
byId("import-cancel").onclick = () => (running ? running.abort() : dialog.close());
