// Photos of one person, sent one by one, with what became of each.
import { ApiError, request } from "./api.js";
import { element, plural } from "./dom.js";
import { boxOf, drawFace, kindOf, open } from "./pictures.js";

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

/**
 * Add one photo to a person, who is created if nobody has the id: {number, bbox, faces}.
 * Throws ApiError also when the service refuses just this photo.
 */
export async function addPhoto(id, name, file, signal) {
  const form = new FormData();
  if (name) form.append("name", name);
  form.append("image", file, file.name || "photo.jpg");
  const answer = await request(`${personPath(id)}/photos`, { method: "POST", body: form, patient: true, signal });
  const [photo] = (await answer.json()).photos;
  if (photo.error) throw new Error(photo.error.message);
  return photo;
}

/** Send photos in order and show what became of each; how many were taken. */
export async function addPhotos(id, name, files, { list, progress }) {
  let taken = 0;
  progress.hidden = false;
  [progress.max, progress.value] = [files.length, 0];
  for (const file of files) {
    const crop = element("canvas", { className: "face", width: 96, height: 96, ariaHidden: "true" });
    const text = element("span", { className: "muted busy", textContent: "Sending …" });
    list.append(element("li", {}, crop, element("div", {}, element("strong", { textContent: file.name }), element("br"), text)));
    text.scrollIntoView({ block: "nearest" });
    try {
      if (!kindOf(file)) throw new Error("This is not a picture.");
      const photo = await addPhoto(id, name, file);
      taken += 1;
      text.className = "small";
      const others = photo.faces > 1 ? `; the largest of ${plural(photo.faces, "face")} was taken` : "";
      text.textContent = `Taken as photo ${photo.number}${others}.`;
      await showFace(crop, file, photo.bbox);
    } catch (error) {
      text.className = "fault";
      text.textContent = error.message;
    }
    progress.value += 1;
  }
  progress.hidden = true;
  return taken;
}

async function showFace(canvas, file, bbox) {
  const picture = await open(file).catch(() => null);
  if (picture) drawFace(canvas, picture, boxOf(bbox));
  picture?.close();
}
