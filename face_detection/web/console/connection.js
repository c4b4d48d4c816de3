// Whether the service can be reached: a banner while it cannot, and word when it can again.
import { announce, byId } from "./dom.js";
import { addressOf } from "../addresses.js";

const PAUSES = [1, 2, 3, 5];
const PATIENCE = 5000;
const news = new EventTarget();
let timer = null;
let tries = 0;
let lost = false;

/** Call whenever the service answers again after it did not. */
export const onBack = (listener) => news.addEventListener("back", listener);

async function reachable() {
  try {
    return (await fetch(addressOf("/livez"), { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) })).ok;
  } catch {
    return false;
  }
}

/** Find out why a request got no answer: true when the service is gone, which the banner then says. */
export async function isGone() {
  if (lost) return true;
  if (await reachable()) return false;
  if (!lost) {
    lost = true;
    tries = 0;
    byId("gone").hidden = false;
    wait();
  }
  return true;
}

function wait() {
  const seconds = PAUSES[Math.min(tries++, PAUSES.length - 1)];
  byId("gone-next").textContent = "Trying again …";
  timer = setTimeout(retry, seconds * 1000);
}

async function retry() {
  clearTimeout(timer);
  if (!(await reachable())) return wait();
  lost = false;
  byId("gone").hidden = true;
  announce("The service answers again.");
  news.dispatchEvent(new Event("back"));
}

byId("gone-retry").onclick = retry;
