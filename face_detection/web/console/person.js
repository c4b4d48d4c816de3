// The dialog of one person: somebody new, or somebody to rename, describe, give photos or delete.
import { addPhotos, deletePhoto as removePhoto, exists, idFor, personPath } from "./adding.js";
import { json, parse, request, sendJson } from "./api.js";
import { announce, answered, byId, called, confirmed, element, note, plural } from "./dom.js";

const dialog = byId("person-dialog");
const fields = { id: byId("person-id"), name: byId("person-name"), metadata: byId("person-metadata"), files: byId("person-files") };
let person = null; // null for somebody new
let changed = false;

/** Let somebody be added; whether the people have changed. */
export function addSomebody() {
  open(null);
  return closed();
}

/** Let somebody be edited; whether they have changed. */
export function editPerson(one) {
  open(one);
  loadPhotos();
  return closed();
}

async function closed() {
  await answered(dialog);
  return changed;
}

function open(one) {
  person = one;
  changed = false;
  byId("person-title").textContent = one ? called(one) : "Add a person";
  fields.name.value = one?.name ?? "";
  fields.id.value = one?.id ?? "";
  fields.id.readOnly = one !== null;
  fields.metadata.value = one && one.metadata !== null ? JSON.stringify(one.metadata, null, 2) : "";
  fields.files.value = "";
  for (const id of ["person-save-row", "person-delete", "person-photos"]) byId(id).hidden = one === null;
  byId("person-add").hidden = one !== null;
  byId("person-files-label").textContent = one ? "Add photos" : "Choose photos";
  byId("person-photos").replaceChildren();
  byId("person-results").replaceChildren();
  byId("person-progress").hidden = true;
  fault("");
  count();
  note(byId("person-note"), "");
}

function count() {
  const chosen = fields.files.files.length;
  byId("person-files-count").textContent = chosen ? `${plural(chosen, "photo")} chosen` : "Several are better than one; of several faces in one the large one near the middle is taken.";
}

function fault(text) {
  byId("person-metadata-fault").textContent = text;
  byId("person-metadata-fault").hidden = !text;
  fields.metadata.setAttribute("aria-invalid", String(Boolean(text)));
}

/** The metadata as they were typed, null when empty; undefined, with a word on why, when they are not JSON. */
function metadata() {
  fault("");
  if (!fields.metadata.value.trim()) return null;
  try {
    return parse(fields.metadata.value);
  } catch (error) {
    fault(`This is not JSON: ${error.message}`);
    fields.metadata.focus();
    return undefined;
  }
}

function tell(text, kind) {
  note(byId("person-note"), text, kind);
  byId("person-note").scrollIntoView({ block: "nearest" });
}

/** Do something with the buttons locked, and show why when it fails. */
async function attempt(work) {
  const buttons = [...dialog.querySelectorAll("button:not([data-close])")];
  for (const button of buttons) button.disabled = true;
  fields.files.disabled = true;
  try {
    await work();
  } catch (error) {
    tell(error.message, "bad");
  }
  for (const button of buttons) button.disabled = false;
  fields.files.disabled = false;
}

async function loadPhotos() {
  const { id } = person;
  try {
    const photos = [];
    for (let after = -1; after !== null;) {
      const page = await json(`${personPath(id)}/photos?after=${after}`);
      photos.push(...page.photos);
      after = page.next;
    }
    if (person?.id === id) byId("person-photos").replaceChildren(...photos.map((photo) => chip(photo, photos.length)));
  } catch (error) {
    tell(error.message, "bad");
  }
}

function chip(photo, all) {
  const remove = element("button", { className: "plain tight", type: "button", textContent: "Delete", ariaLabel: `Delete photo ${photo.number}` });
  remove.onclick = () => (all === 1 ? deletePerson() : deletePhoto(photo.number));
  return element("li", {}, `Photo ${photo.number}`, remove);
}

async function deletePhoto(number) {
  if (!(await confirmed("Delete this photo?", `Photo ${number} of ${called(person)} will no longer be compared with.`, "Delete"))) return;
  await attempt(async () => {
    await removePhoto(person.id, number);
    changed = true;
    await loadPhotos();
  });
}

async function deletePerson() {
  if (!(await confirmed(`Delete ${called(person)}?`, "All photos and events of this person go as well. This cannot be undone.", "Delete"))) return;
  await attempt(async () => {
    // Ids of former releases, which browsers take out of a path.
    const path = [".", ".."].includes(person.id) ? `/people?id=${person.id}` : personPath(person.id);
    await request(path, { method: "DELETE" });
    changed = true;
    announce(`${called(person)} has been deleted.`);
    dialog.close();
  });
}

async function save() {
  const described = metadata();
  if (described === undefined) return;
  await attempt(async () => {
    person = await sendJson("PATCH", personPath(person.id), { name: fields.name.value.trim(), metadata: described });
    changed = true;
    byId("person-title").textContent = called(person);
    tell("Saved.", "good");
  });
}

async function add() {
  const described = metadata();
  if (described === undefined || !byId("person-form").reportValidity()) return;
  const name = fields.name.value.trim(), id = fields.id.value.trim() || idFor(name);
  if (!id) return tell("Give an id: none can be made from this name.", "bad");
  if (!fields.files.files.length) return tell("Choose at least one photo.", "bad");
  await attempt(async () => {
    if (await exists(id)) throw new Error(`There is somebody with the id ${id} already.`);
    byId("person-results").replaceChildren();
    const taken = await send(id, name);
    if (!taken) return;
    person = described === null ? await json(personPath(id)) : await sendJson("PATCH", personPath(id), { metadata: described });
    const results = [...byId("person-results").children];
    open(person);
    changed = true;
    byId("person-results").replaceChildren(...results);
    tell(`${called(person)} has been added with ${plural(taken, "photo")}.`, "good");
    await loadPhotos();
  });
}

/** Send the chosen photos; how many were taken. */
async function send(id, name) {
  const files = [...fields.files.files];
  const taken = await addPhotos(id, name, files, { list: byId("person-results"), progress: byId("person-progress") });
  changed ||= taken > 0;
  fields.files.value = "";
  count();
  tell(`${taken} of ${plural(files.length, "photo")} taken.`, taken === files.length ? "good" : "bad");
  return taken;
}

byId("person-form").onsubmit = (event) => {
  event.preventDefault();
  if (person) save();
  else add();
};
byId("person-add").onclick = add;
byId("person-delete").onclick = deletePerson;
fields.files.onchange = () => {
  count();
  if (!person || !fields.files.files.length) return;
  attempt(async () => {
    byId("person-results").replaceChildren();
    await send(person.id, "");
    await loadPhotos();
  });
};
