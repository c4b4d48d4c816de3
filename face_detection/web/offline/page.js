// The page: shows the status of the copy, and what is recognised in photos and before the camera.
import { addressOf, ownName } from "../../static/addresses.js";
import { formatOf, undecodable } from "../../static/formats.js";
import { Background } from "./background.js";

const CATCH_UP_SECONDS = 15;
const SHOWN_SIDE = 1024;
const SHOWN_PHOTOS = 24;
const PAGE_CACHES = `${ownName("face-recognition-page")}-`; // see service-worker.js

const byId = (id) => document.getElementById(id);

const show = (node, visible) => { node.hidden = !visible; };

const problem = (text) => {
  byId("problem").textContent = text ?? "";
  show(byId("problem"), Boolean(text));
};

const labelOf = ({ personId, name, distance, reason, ambiguous }) => {
  const how = distance === null ? "" : ` (${distance.toFixed(2)})`;
  if (personId !== null) return `${name || personId}${how}${ambiguous ? ", ambiguous" : ""}`;
  return reason === "low_quality" ? "unknown: low quality" : `unknown${how}`;
};

/** Why faces cannot carry a name, and which heads are turned. */
const remarksOf = (faces) =>
  faces.flatMap(({ objections, angle }) => [...objections, ...(angle ? [`turned by ${angle}°`] : [])]).join("; ");

const timesOf = (milliseconds) =>
  Object.entries(milliseconds).map(([stage, time]) => `${stage} ${time.toFixed(time < 10 ? 1 : 0)} ms`).join(", ");

const namesOf = (faces) => (faces.length ? faces.map(labelOf).join("; ") : "no face");

/** Boxes with labels, onto a canvas that shows the picture at a scale. */
const drawFaces = (canvas, faces, scale = 1) => {
  const context = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  const size = Math.max(12, Math.round(Math.max(canvas.width, canvas.height) / 40));
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.lineWidth = Math.max(2, size / 8);
  context.textBaseline = "bottom";
  for (const face of faces) {
    const [x, y, width, height] = [face.box.x, face.box.y, face.box.width, face.box.height].map((side) => side * scale);
    const text = labelOf(face);
    const colour = style.getPropertyValue(face.personId === null ? "--unknown" : "--known");
    context.strokeStyle = context.fillStyle = colour;
    context.strokeRect(x, y, width, height);
    const top = Math.max(y, size * 1.3);
    context.fillRect(x - context.lineWidth / 2, top - size * 1.3, context.measureText(text).width + size * 0.6, size * 1.3);
    context.fillStyle = style.getPropertyValue("--surface");
    context.fillText(text, x + size * 0.2, top - size * 0.1);
  }
};

/** Names the faces before the camera, one picture after another. */
class Camera {
  /**
   * @param {HTMLVideoElement} video
   * @param {(frame: ImageBitmap) => Promise<void>} onFrame is given the next picture when it is done with one.
   */
  constructor(video, onFrame) {
    this.video = video;
    this.onFrame = onFrame;
    this.stream = null;
  }

  get running() {
    return this.stream !== null;
  }

  async start() {
    this.stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user", width: { ideal: 640 } } });
    this.video.srcObject = this.stream;
    await this.video.play();
    this.run(this.stream);
  }

  stop() {
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
    this.video.srcObject = null;
  }

  async run(stream) {
    while (this.stream === stream) {
      await new Promise((resolve) => this.video.requestVideoFrameCallback(resolve));
      if (this.stream === stream) await this.onFrame(await createImageBitmap(this.video));
    }
  }
}

const connectionText = ({ connected, online }) => (!connected ? "no copy" : online === null ? "…" : online ? "online" : "offline");

let latest = null;
let pageKept = false;

const summaryText = ({ connected, ready, faces, people, model, checkedAt, threads, progress }) => {
  if (!connected) return "Nothing is kept in this browser.";
  if (progress) return `Fetching the model: ${(progress.done / 1e6).toFixed(1)} of ${(progress.total / 1e6).toFixed(1)} MB.`;
  if (!checkedAt) return "Not fetched yet.";
  const copy = `${faces} faces of ${people} people as of ${new Date(checkedAt).toLocaleString()}`;
  if (!ready) return `${copy}; the models are not here yet.`;
  return `${copy}; ${model}, ${threads} threads. ${pageKept ? "Works without a network." : "The page itself is not kept yet."}`;
};

const showStatus = (status) => {
  if (status.effort !== latest?.effort) byId("thorough").checked = status.effort === "thorough";
  latest = status;
  const connection = byId("connection");
  connection.textContent = connectionText(status);
  connection.dataset.state = connection.textContent;
  byId("summary").textContent = summaryText(status);
  byId("summary").dataset.faces = status.faces;
  problem(status.problem);
  show(byId("connect"), !status.connected);
  show(byId("forget"), status.connected);
  show(byId("catch-up"), status.connected);
  show(byId("progress"), status.progress !== null);
  if (status.progress) byId("progress").value = status.progress.done / status.progress.total;
  byId("photos").disabled = !status.ready;
  byId("camera").disabled = !status.ready && !camera.running;
  byId("main").setAttribute("aria-busy", "false");
  if (!status.ready && camera.running) stopCamera();
};

const keepOffline = async () => {
  await navigator.serviceWorker.register(addressOf("/offline/service-worker.js"), { scope: addressOf("/offline") });
  await navigator.serviceWorker.ready;
  pageKept = true;
  if (latest) showStatus(latest);
  // Whoever copies a gallery wants to find it again: ask the browser not to throw it away for want of space.
  await navigator.storage.persist();
};

const recognisePhoto = async (file) => {
  const canvas = document.createElement("canvas"), caption = document.createElement("figcaption");
  const figure = document.createElement("figure"), times = document.createElement("span"), remarks = document.createElement("span");
  caption.textContent = `${file.name}: …`;
  times.className = remarks.className = "muted small";
  figure.append(canvas, caption, times, remarks);
  byId("results").prepend(figure);
  [...byId("results").children].slice(SHOWN_PHOTOS).forEach((former) => former.remove());
  try {
    const { faces, milliseconds, width, height } = await background.call("recognise", { source: file, effort: byId("thorough").checked ? "thorough" : "fast" });
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, SHOWN_SIDE / Math.max(width, height));
    Object.assign(canvas, { width: Math.ceil(width * scale), height: Math.ceil(height * scale) });
    const context = canvas.getContext("2d", { alpha: false });
    context.fillStyle = "white"; // where the picture is transparent
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    drawFaces(canvas, faces, scale);
    caption.textContent = `${file.name}: ${namesOf(faces)}`;
    remarks.textContent = remarksOf(faces);
    times.textContent = timesOf(milliseconds);
  } catch (error) {
    const format = await formatOf(file);
    const why = (await undecodable()).includes(format) ? ` This browser does not decode ${format}; the service does, with a network.` : "";
    caption.textContent = `${file.name}: ${error.message}${why}`;
    canvas.remove();
  }
};

/** Say which formats this browser cannot decode, and so cannot recognise. */
const showFormats = async () => {
  const beyond = await undecodable();
  if (beyond.length) byId("formats").textContent = `This browser cannot decode ${beyond.join(" and ")}: photos of such a format only the service can read.`;
};

const recogniseFrame = async (frame) => {
  try {
    const { faces, milliseconds, width, height } = await background.call("recognise", { source: frame }, [frame]);
    if (!camera.running) return;
    Object.assign(byId("overlay"), { width, height });
    drawFaces(byId("overlay"), faces);
    byId("live-names").textContent = namesOf(faces);
    byId("live-times").textContent = timesOf(milliseconds);
  } catch (error) {
    stopCamera();
    problem(error.message);
  }
};

const stopCamera = () => {
  camera.stop();
  show(byId("live"), false);
  byId("camera").textContent = "Start the camera";
};

const toggleCamera = async () => {
  if (camera.running) return stopCamera();
  try {
    show(byId("live"), true);
    await camera.start();
    byId("camera").textContent = "Stop the camera";
  } catch (error) {
    stopCamera();
    problem(`The camera cannot be used: ${error.message}`);
  }
};

const forget = async () => {
  await background.call("forget");
  byId("results").replaceChildren();
  const registration = await navigator.serviceWorker.getRegistration(addressOf("/offline"));
  await registration?.unregister();
  const names = (await caches.keys()).filter((name) => name.startsWith(PAGE_CACHES));
  await Promise.all(names.map((name) => caches.delete(name)));
  pageKept = false;
};

const listen = () => {
  byId("connect").addEventListener("submit", (event) => {
    event.preventDefault();
    const key = byId("key").value.trim();
    byId("key").value = "";
    // After everything was forgotten the page itself has to be kept again.
    keepOffline().catch((error) => problem(error.message));
    background.call("connect", key);
  });
  byId("forget").addEventListener("click", forget);
  byId("catch-up").addEventListener("click", () => background.call("catchUp"));
  byId("photos").addEventListener("change", async (event) => {
    const files = [...event.target.files];
    event.target.value = "";
    for (const file of files) await recognisePhoto(file);
  });
  byId("camera").addEventListener("click", toggleCamera);
  addEventListener("online", () => background.call("catchUp"));
  setInterval(() => background.call("catchUp"), CATCH_UP_SECONDS * 1000);
};

const camera = new Camera(byId("video"), recogniseFrame);
let background;

if (isSecureContext && navigator.serviceWorker) {
  background = new Background(showStatus);
  listen();
  showFormats();
  background.call("catchUp").catch((error) => problem(error.message));
  keepOffline().catch((error) => problem(`The page cannot be kept: ${error.message}`));
} else {
  problem("Browsers keep pages and galleries only for https addresses, and for localhost.");
}
