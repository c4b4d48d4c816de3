// The page People: search, page through, and what leads to the dialogs.
import { json } from "./api.js";
import { findConflicts } from "./conflicts.js";
import { onBack } from "./connection.js";
import { announce, byId, called, element, note, plural } from "./dom.js";
import { openExport } from "./exporting.js";
import { openImport } from "./importing.js";
import { onKeyChange } from "./key.js";
import { addSomebody, editPerson } from "./person.js";

const PAGE = 24;
const METADATA = /^(metadata\.[^=]+)=(.+)$/; // a condition instead of a name or an id
const TYPING = 200; // milliseconds without a key before a search

let active = false;
let newest = 0; // of the requests: a slow one must not overwrite a later one
let before = []; // `after` of each page up to the one shown
let next = null;
let shown = ""; // the people of the cards: a card that stays keeps the focus

async function load(telling = false) {
  const request = ++newest;
  const text = byId("search-text").value.trim();
  const query = new URLSearchParams({ limit: PAGE });
  const condition = METADATA.exec(text);
  if (condition) query.set(condition[1], condition[2]);
  else if (text) query.set("text", text);
  if (before.length) query.set("after", before.at(-1));
  try {
    const page = await json(`/people?${query}`);
    if (request !== newest) return;
    // The last person of a page may have been deleted.
    if (!page.people.length && before.length) {
      before.pop();
      return await load(telling);
    }
    next = page.next;
    showPeople(page.people, text);
    note(byId("people-note"), "");
  } catch (error) {
    if (request !== newest) return;
    next = null;
    showPeople([], text);
    byId("people-count").textContent = "";
    note(byId("people-note"), error.message, "bad");
  }
  if (telling) announce(byId("people-count").textContent);
}

function showPeople(people, text) {
  const first = before.length * PAGE;
  const state = JSON.stringify(people);
  if (state !== shown) byId("people").replaceChildren(...people.map(card));
  shown = state;
  const range = first || next !== null ? `${first + 1} to ${first + people.length}` : plural(people.length, "person", "people");
  byId("people-count").textContent = people.length
    ? `${range}${text ? ` with “${text}”` : ""}`
    : text ? `Nobody with “${text}”.` : "Nobody is enrolled yet.";
  byId("people-back").disabled = !before.length;
  byId("people-next").disabled = next === null;
}

function card(person) {
  const initials = called(person).split(/[\s._-]+/).filter(Boolean).slice(0, 2).map((word) => [...word][0].toUpperCase()).join("");
  const metadata = person.metadata === null || person.metadata === "" ? "" : JSON.stringify(person.metadata);
  const button = element("button", { type: "button" },
    element("span", { className: "initials", ariaHidden: "true", textContent: initials || "?" }),
    element("span", { className: "lines" },
      element("strong", { textContent: called(person) }),
      element("span", { className: "muted small", textContent: `${person.id} · ${plural(person.photos, "photo")}` }),
      ...(metadata ? [element("code", { className: "muted", textContent: metadata })] : [])));
  button.dataset.id = person.id;
  button.onclick = async () => {
    if (!(await editPerson(person))) return;
    await load();
    [...document.querySelectorAll("#people button")].find((one) => one.dataset.id === person.id)?.focus();
  };
  return element("li", {}, button);
}

const restart = (telling) => { before = []; return load(telling); };

let typing = null;
byId("search-text").oninput = () => {
  clearTimeout(typing);
  typing = setTimeout(() => restart(true), TYPING);
};
byId("search").onsubmit = (event) => {
  event.preventDefault();
  restart(true);
};
byId("people-next").onclick = () => { before.push(next); load(true); };
byId("people-back").onclick = () => { before.pop(); load(true); };
byId("add-person").onclick = async () => { if (await addSomebody()) load(); };
byId("import").onclick = async () => { if (await openImport()) load(); };
byId("export").onclick = openExport;
byId("check").onclick = () => findConflicts(load);
onBack(() => { if (active) load(); });
onKeyChange(() => { if (active) restart(); });

export function show() { active = true; load(); }
export function hide() { active = false; }
