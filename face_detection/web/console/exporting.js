// Export of all people as JSON, paged through.
import { json, request } from "./api.js";
import { answered, byId, plural, save } from "./dom.js";

const PAGE = 1000;
const MOST_STARTS = 3;
const dialog = byId("export-dialog");
let running = null;

/** Let the people be exported. */
export async function openExport() {
  byId("export-state").textContent = "";
  byId("export-embeddings").checked = false;
  await answered(dialog);
  running?.abort();
}

async function start() {
  running = new AbortController();
  const { signal } = running;
  byId("export-start").disabled = true;
  const tell = (text) => { byId("export-state").textContent = text; };
  try {
    const people = await allPeople(signal, (count) => tell(`${plural(count, "person", "people")} …`));
    const whole = { exported_at: new Date().toISOString(), people };
    if (byId("export-embeddings").checked) Object.assign(whole, await allEmbeddings(people, signal, (count) => tell(`${plural(count, "embedding")} …`)));
    save(new Blob([JSON.stringify(whole, null, 1)], { type: "application/json" }), `people-${whole.exported_at.slice(0, 10)}.json`);
    tell(`${plural(people.length, "person", "people")} exported.`);
  } catch (error) {
    tell(signal.aborted ? "" : error.message);
  }
  byId("export-start").disabled = false;
  running = null;
}

async function allPeople(signal, tell) {
  const people = [];
  for (let after = null; ;) {
    const query = new URLSearchParams({ limit: PAGE, ...(after === null ? {} : { after }) });
    const page = await json(`/people?${query}`, { signal, patient: true });
    people.push(...page.people);
    tell(people.length);
    if (page.next === null) return people;
    after = page.next;
  }
}

/** Gives each person their `embeddings`; the space and metric in which these can be compared. */
async function allEmbeddings(people, signal, tell) {
  for (let starts = 1; ; starts++) {
    try {
      return await embeddings(people, signal, tell);
    } catch (error) {
      // The service no longer knows all that has changed since the last page.
      if (error.status !== 410 || starts === MOST_STARTS) throw error;
    }
  }
}

async function embeddings(people, signal, tell) {
  const of = new Map(people.map((person) => [person.id, (person.embeddings = [])]));
  let count = 0;
  for (let cursor = ""; ;) {
    const query = new URLSearchParams({ limit: PAGE, ...(cursor ? { last_updated_at: cursor } : {}) });
    const answer = await request(`/faces/sync?${query}`, { signal, patient: true });
    for (const face of await answer.json()) {
      if (!face.deleted) of.get(face.personId)?.push({ photo: face.faceId, embedding: face.faceEncoding });
      count += face.deleted ? 0 : 1;
    }
    tell(count);
    if (!answer.headers.has("Link")) return { space: answer.headers.get("X-Embedding-Space"), metric: answer.headers.get("X-Metric") };
    cursor = answer.headers.get("X-Next-Cursor");
  }
}

byId("export-start").onclick = start;
