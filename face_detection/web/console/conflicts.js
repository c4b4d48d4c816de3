// Photos that contradict each other: looked for on request, with what can be done about each.
import { deletePhoto, personPath } from "./adding.js";
import { json } from "./api.js";
import { announce, byId, called, confirmed, element, note, plural, short } from "./dom.js";
import { editPerson } from "./person.js";

const SHOWN = 500;
const KINDS = {
  nearer_to_other: "looks more like",
  unlike_own: "is unlike their other photos, of which the nearest is",
};

let running = null;
let changed = () => {};

/** Look through all photos; `onChange` is called when something was changed from here. */
export async function findConflicts(onChange) {
  running?.abort();
  changed = onChange;
  const own = (running = new AbortController());
  const rows = byId("conflicts-list");
  rows.replaceChildren();
  byId("conflicts").hidden = byId("conflicts-stop").hidden = false;
  let [found, examined] = [0, 0];
  const state = byId("conflicts-state");
  try {
    for (let after = null; ;) {
      note(state, `${plural(examined, "photo")} examined …`);
      const page = await json(`/conflicts${after === null ? "" : `?after=${after}`}`, { signal: own.signal, patient: true });
      found += page.conflicts.length;
      examined += page.examined;
      rows.append(...page.conflicts.slice(0, Math.max(0, SHOWN - rows.childElementCount)).map(row));
      after = page.next;
      if (after === null) break;
    }
    const more = found > SHOWN ? ` The first ${SHOWN} are shown.` : "";
    note(state, `${plural(examined, "photo")} examined, ${found ? plural(found, "contradiction") : "no contradictions"}.${more}`, found ? "" : "good");
  } catch (error) {
    if (running !== own) return;
    if (own.signal.aborted) note(state, `Stopped: ${plural(examined, "photo")} examined, ${plural(found, "contradiction")}.`);
    else note(state, error.message, "bad");
  }
  byId("conflicts-stop").hidden = true;
  announce(state.textContent);
}

function row({ person, photo, kind, other, distance }) {
  const remove = element("button", { className: "tight danger", type: "button", textContent: "Delete the photo", ariaLabel: `Delete photo ${photo} of ${called(person)}` });
  const item = element("li", {},
    element("span", {}, `Photo ${photo} of `, link(person), ` ${KINDS[kind] ?? kind} `, ...(kind === "unlike_own" ? [] : [link(other), ", "]), `photo ${other.photo}: `,
      element("span", { className: "mono", textContent: short(distance) })), remove);
  item.dataset.photos = `${photo} ${other.photo}`;
  remove.onclick = async () => {
    if (!(await confirmed("Delete this photo?", `Photo ${photo} of ${called(person)} will no longer be compared with. With the last photo the person goes, too.`, "Delete"))) return;
    remove.disabled = true;
    try {
      await deletePhoto(person.id, photo);
      // What others were told of this photo has gone with it.
      for (const told of byId("conflicts-list").querySelectorAll(`[data-photos~="${photo}"]`)) told.remove();
      (byId("conflicts-list").querySelector("button") ?? byId("check")).focus();
      announce(`Photo ${photo} of ${called(person)} has been deleted.`);
      changed();
    } catch (error) {
      remove.disabled = false;
      note(byId("conflicts-state"), error.message, "bad");
    }
  };
  return item;
}

/** Somebody's name, which opens their card. */
function link(person) {
  const button = element("button", { className: "plain tight", type: "button", textContent: called(person), title: `id ${person.id}` });
  button.onclick = async () => {
    try {
      if (await editPerson(await json(personPath(person.id)))) changed();
    } catch (error) {
      note(byId("conflicts-state"), error.message, "bad");
    }
  };
  return button;
}

byId("conflicts-stop").onclick = () => running?.abort();
byId("conflicts-close").onclick = () => {
  running?.abort();
  byId("conflicts").hidden = true;
  byId("check").focus();
};
