// The event log as a table, with the faces that were kept.
import { json, request } from "./api.js";
import { byId, element, note, short, time } from "./dom.js";

const PAGE = 20;
const MOST_FACES = 100; // pictures in memory
const KINDS = { recognised: "good", unknown: "warn", enrolled: "" };

const faces = new Map(); // number and time, which no two events have in common, to address of a picture
let before = null;
let next = null;
let shown = "";

/** Ask for the page of events that is looked at. Throws ApiError. */
export async function loadEvents() {
  const wanted = filter();
  const query = new URLSearchParams({ limit: PAGE, ...wanted, ...(before ? { before } : {}) });
  const page = await json(`/events?${query}`);
  if (JSON.stringify(wanted) !== JSON.stringify(filter())) return;
  note(byId("events-note"), "");
  next = page.next;
  byId("events-next").disabled = next === null;
  byId("events-back").disabled = before === null;
  // Only what differs is drawn: somebody may be selecting text.
  const state = JSON.stringify([wanted, before, page.events]);
  if (state !== shown) byId("events").tBodies[0].replaceChildren(...page.events.map(row));
  shown = state;
  if (!page.events.length) note(byId("events-note"), "There are no events.");
}

/** What is asked for, as parameters of the query. Times are typed as the clock on the wall has them. */
function filter() {
  const wanted = {};
  for (const name of ["kind", "person", "device", "since", "until"]) {
    const { value } = byId(`event-${name}`);
    if (value) wanted[name] = name === "since" || name === "until" ? new Date(value).toISOString() : value;
  }
  return wanted;
}

/** Empty the table and say why. */
export function failEvents(message) {
  shown = "";
  byId("events").tBodies[0].replaceChildren();
  byId("events-next").disabled = byId("events-back").disabled = true;
  note(byId("events-note"), message, "bad");
}

/** Look at the newest events; `reload` asks for them. */
export function followEvents(reload) {
  byId("event-filter").onchange = byId("events-back").onclick = () => { before = null; reload(); };
  byId("event-filter").onsubmit = (event) => { event.preventDefault(); before = null; reload(); };
  byId("events-next").onclick = () => { before = next; reload(); };
}

function row(event) {
  const cell = (...content) => element("td", {}, ...content);
  const face = event.crop ? element("img", { className: "face", alt: "The face" }) : element("span", { className: "muted small", textContent: "not kept" });
  if (event.crop) showFace(face, event);
  const who = event.person === null ? "–" : event.name ? `${event.name} (${event.person})` : event.person;
  return element("tr", {}, cell(face), cell(time(event.at)), cell(element("span", { className: `badge ${KINDS[event.kind] ?? ""}`, textContent: event.kind })),
    cell(who), cell(element("span", { className: "mono", textContent: short(event.distance) })));
}

/** Pictures are asked for as everything else, with the key in a header. */
async function showFace(image, event) {
  const key = `${event.number} ${event.at}`; // numbers alone are those of whatever company the key is for
  if (!faces.has(key)) {
    faces.set(key, request(`/events/${event.number}/crop`, { ask: false }).then(async (answer) => URL.createObjectURL(await answer.blob())));
    for (const old of [...faces.keys()].slice(0, Math.max(0, faces.size - MOST_FACES))) {
      faces.get(old).then(URL.revokeObjectURL, () => {});
      faces.delete(old);
    }
  }
  try {
    image.src = await faces.get(key);
  } catch {
    image.alt = "The face is gone";
    faces.delete(key);
  }
}
