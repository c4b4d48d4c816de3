// The API key: kept for this tab only, asked for when the service wants one.
import { announce, answered, byId, note } from "./dom.js";
import { ownName } from "../addresses.js";

const STORED = ownName("api-key");
const changes = new EventTarget();
let asking = null;
let declined = false;

export const currentKey = () => sessionStorage.getItem(STORED);

/** Call when another key is in use, or none. */
export const onKeyChange = (listener) => changes.addEventListener("change", listener);

/**
 * Ask for a key, once however many requests want one; whether there is another one than the tried one now.
 * Somebody who has declined is asked again only when they press the button.
 */
export async function askForKey(reason, tried) {
  if (currentKey() !== tried) return true;
  if (declined) return false;
  asking ??= ask(tried === null ? "" : reason).finally(() => { asking = null; });
  return asking;
}

async function ask(reason) {
  const text = byId("key-text");
  note(byId("key-reason"), reason, "bad");
  text.value = "";
  const answer = await answered(byId("key-dialog"));
  const key = text.value.trim();
  text.value = "";
  declined = answer !== "use" || !key;
  if (!declined) keep(key);
  return !declined;
}

function keep(key) {
  if (key) sessionStorage.setItem(STORED, key);
  else sessionStorage.removeItem(STORED);
  show();
  changes.dispatchEvent(new Event("change"));
}

function show() {
  const has = currentKey() !== null;
  byId("forget-key").hidden = !has;
  byId("enter-key").textContent = has ? "Change key" : "Enter key";
}

byId("enter-key").onclick = () => { asking ??= ask("").finally(() => { asking = null; }); };
byId("forget-key").onclick = () => {
  declined = false;
  keep("");
  announce("The key is forgotten.");
  byId("enter-key").focus();
};
show();
