// The console's frame: which page is shown. A page's module is loaded when the page is first wanted.
import { byId } from "./dom.js";
import "./key.js";
import "./connection.js";

const PAGES = {
  recognise: () => import("./recognise.js"),
  people: () => import("./people.js"),
  live: () => import("./live.js"),
  status: () => import("./status.js"),
};

let shown = null;

async function open(name, focus) {
  if (shown?.name === name) return;
  shown?.page?.hide();
  const opening = { name, page: null };
  shown = opening;
  for (const one of Object.keys(PAGES)) byId(`page-${one}`).hidden = one !== name;
  for (const link of document.querySelectorAll(".tabs a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${byId(`${name}-title`).textContent} · Face recognition`;
  if (focus) byId("main").focus();
  byId("main").setAttribute("aria-busy", "true");
  const page = await PAGES[name]();
  if (shown !== opening) return;
  byId("main").setAttribute("aria-busy", "false");
  opening.page = page;
  page.show();
}

const wanted = () => (location.hash.slice(1) in PAGES ? location.hash.slice(1) : "recognise");

addEventListener("hashchange", () => open(wanted(), true));
byId("skip").onclick = (event) => {
  event.preventDefault();
  byId("main").focus();
};
open(wanted(), false);
