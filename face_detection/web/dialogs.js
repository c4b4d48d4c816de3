// Modal dialogs: buttons with data-close close theirs, and questions that are answered with yes or no.
import { byId } from "./dom.js";

document.addEventListener("click", (event) => {
  if (event.target instanceof Element) event.target.closest("[data-close]")?.closest("dialog").close("");
});

/** Open a dialog and wait until it is closed; its return value. */
export function answered(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true }));
}

/** Ask before something that cannot be undone. */
export async function confirmed(title, text, verb) {
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  byId("confirm-yes").textContent = verb;
  return (await answered(byId("confirm-dialog"))) === "yes";
}
