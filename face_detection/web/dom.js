// Small helpers for the document. Text of the service and of files only ever becomes text.

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
