// Small helpers for the document, and modal dialogs. Text of the service and of files only ever becomes text.

export const byId = (id) => document.getElementById(id);

/** A new element; children are nodes or text. */
export function element(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

/** Tell screen readers; the same text twice is told twice. */
export function announce(text) {
  const announcer = byId("announcer");
  announcer.textContent = "";
  setTimeout(() => { announcer.textContent = text; }, 50);
}

/** Show a note, or hide it when there is no text. `kind` is "", "good" or "bad". */
export function note(target, text, kind = "") {
  target.textContent = text ?? "";
  target.className = kind ? `note ${kind}` : "note";
  target.hidden = !text;
}

/** What to call somebody: their name, or the id of those who have none. */
export const called = (person) => person.name || person.id;

export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

/** A distance as the service rounds it, short enough to stand beside a name. */
export const short = (distance) => (distance === null || distance === undefined ? "–" : distance.toFixed(distance < 1 ? 3 : 2));

/** The time of day. */
export const clock = (date) => date.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

export const time = (text) => `${new Date(text).toLocaleDateString(undefined, { dateStyle: "medium" })}, ${clock(new Date(text))}`;

/** Let a file be saved under a name. */
export function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Put text into the clipboard. Browsers keep it from pages without TLS: those get the text shown, selected. */
export async function copy(text, button) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    announce("Copied");
    setTimeout(() => { button.textContent = label; }, 1500);
  } catch {
    const area = element("textarea", { value: text, readOnly: true, className: "copy-fallback", ariaLabel: "Text to copy" });
    const close = element("button", { textContent: "Close", type: "button" });
    const dialog = element("dialog", { className: "wide" }, element("h2", { textContent: "Copy this" }), area, close);
    close.onclick = () => dialog.close();
    dialog.onclose = () => dialog.remove();
    document.body.append(dialog);
    dialog.showModal();
    area.select();
  }
}

// Buttons with data-close close their dialog.
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
export async function confirmed(title, text, verb, otherwise = "Cancel") {
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  byId("confirm-yes").textContent = verb;
  byId("confirm-no").textContent = otherwise;
  return (await answered(byId("confirm-dialog"))) === "yes";
}
