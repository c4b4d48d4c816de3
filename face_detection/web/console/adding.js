// Photos of one person, sent one by one, with what became of each.
import { ApiError, request } from "./api.js";
import { confirmed, element, plural } from "./dom.js";
import { boxOf, drawFace, open, undisplayable } from "./pictures.js";
import { formatOf } from "../formats.js";

export const personPath = (id) => `/people/${encodeURIComponent(id)}`;

/** The id for somebody of whom only the name is known: the name, without what is awkward in an address. */
export const idFor = (name) => name.trim().toLowerCase().normalize("NFKD").replace(/\p{M}/gu, "").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 200);

/** Whether somebody has the id. */
export async function exists(id, signal) {
  try {
    await request(personPath(id), { signal });
    return true;
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return false;
    throw error;
  }
}

/** Delete one photo of a person, and with the last one the person. */
export const deletePhoto = (id, number) => request(`${personPath(id)}/photos/${number}`, { method: "DELETE" });

/** What a photo that was taken contradicts, in words; empty where there is nothing. */
export const doubts = (photo) => (photo.warnings ?? []).map(({ message }) => message).join(" ");

/** Whether a photo stays: one that contradicts others can be taken back. */
export async function kept(id, name, photo) {
  if (!doubts(photo)) return true;
  const back = await confirmed(`Keep ${name}?`, doubts(photo), "Take it back", "Keep it");
  if (back) await deletePhoto(id, photo.number);
  return !back;
}

/**
 * Add one photo to a person, who is created if nobody has the id: {number, bbox, faces, warnings}.
 * `face` is "x,y" of a point in the face that is meant, where there may be several.
 * Throws ApiError, and PhotoError when the service refuses just this photo.
 */
export async function addPhoto(id, name, file, { signal, face } = {}) {
  const form = new FormData();
  if (name) form.append("name", name);
  if (face) form.append("face", face);
  form.append("image", file, file.name || "photo.jpg");
  const answer = await request(`${personPath(id)}/photos`, { method: "POST", body: form, patient: true, signal });
  const [photo] = (await answer.json()).photos;
  if (photo.error) throw new PhotoError(photo.error);
  return photo;
}

/** Why a photo was refused; `boxes` are those of the faces that may be meant, if there are several, `bbox` that of one that is too bad. */
class PhotoError extends Error {
  constructor({ message, boxes = [], bbox = null }) {
    super(message);
    Object.assign(this, { boxes, bbox });
  }
}

/** Send photos in order and show what became of each; how many were taken. */
export async function addPhotos(id, name, files, { list, progress }) {
  let taken = 0;
  progress.hidden = false;
  [progress.max, progress.value] = [files.length, 0];
  for (const file of files) {
    const crop = element("canvas", { className: "face", width: 96, height: 96, ariaHidden: "true" });
    const text = element("span"), choice = element("div", { className: "row" });
    list.append(element("li", {}, crop, element("div", {}, element("strong", { textContent: file.name }), element("br"), text, choice)));
    const send = async (face) => {
      text.className = "muted busy";
      text.textContent = "Sending …";
      try {
        if (!(await formatOf(file))) throw new Error("This is not a picture.");
        const photo = await addPhoto(id, name, file, { face });
        taken += 1;
        text.className = "small";
        const others = photo.faces > 1 ? `; this one of ${plural(photo.faces, "face")} was taken` : "";
        text.textContent = `Taken as photo ${photo.number}${others}. ${doubts(photo)}`.trim();
        if (!(await showFace(crop, file, photo.bbox))) text.append(` ${await undisplayable(file)}`);
        if (await kept(id, file.name, photo)) return;
        taken -= 1;
        text.textContent = `Taken back. ${doubts(photo)}`;
      } catch (error) {
        const point = error.boxes?.length ? await picked(text, choice, file, error.boxes) : null;
        if (point) return send(point);
        text.className = "fault";
        text.textContent = error.message;
        if (error.bbox) await showFace(crop, file, error.bbox);
      }
    };
    const sending = send();
    text.scrollIntoView({ block: "nearest" });
    await sending;
    progress.value += 1;
  }
  progress.hidden = true;
  return taken;
}

/** "x,y" in the face that somebody picks of those that may be meant; null when none is, or the dialog is closed. */
async function picked(text, row, file, boxes) {
  text.className = "";
  text.textContent = "Several faces are equally good. Which one is it?";
  const none = element("button", { className: "tight", type: "button", textContent: "None" });
  const dialog = row.closest("dialog");
  const answer = new Promise((resolve) => {
    none.onclick = () => resolve(null);
    dialog.addEventListener("close", () => resolve(null), { once: true });
    for (const [number, bbox] of boxes.entries()) {
      const [x, y, width, height] = boxOf(bbox);
      const crop = element("canvas", { className: "face", width: 96, height: 96, ariaHidden: "true" });
      const button = element("button", { className: "plain", type: "button", ariaLabel: `Face ${number + 1} of ${file.name}` }, crop);
      button.onclick = () => resolve(`${x + width / 2},${y + height / 2}`);
      row.append(button);
      showFace(crop, file, bbox).then((shown) => { if (!shown) button.append(bbox); });
    }
  });
  row.append(none);
  const point = await answer;
  row.replaceChildren();
  return point;
}

/** Draw the face in a box of a file; whether it could be shown. */
export async function showFace(canvas, file, bbox) {
  const picture = await open(file).catch(() => null);
  if (picture) drawFace(canvas, picture, boxOf(bbox));
  picture?.close();
  return picture !== null;
}
