// The page Live: the browser's camera, named as it goes.
import { openCamera, stop as stopCamera } from "./camera.js";
import { onBack } from "./connection.js";
import { byId, note } from "./dom.js";
import { onKeyChange } from "./key.js";
import { LiveSocket } from "./live-socket.js";
import { jpeg } from "./pictures.js";
import { ThresholdSlider } from "./threshold.js";
import { Tracks } from "./tracks.js";
import { Attendance, Strangers } from "./visitors.js";

const LONGER_SIDE = 960; // pixels of the frames that are sent
const SHORTEST_PAUSE = 40; // milliseconds between frames
const QUALITY = 0.85;
const SETTLED = 600; // milliseconds without a movement before the threshold is sent
const RATE_WINDOW = 3000;
const SILENT = 10_000; // milliseconds without a new picture after which the camera is lost

const video = byId("live-video"), overlay = byId("live-overlay");
const socket = new LiveSocket(), tracks = new Tracks(), attendance = new Attendance(), strangers = new Strangers();
const threshold = new ThresholdSlider("live-threshold");
const frame = document.createElement("canvas");
let stream = null;
let encoding = false;
let sentAt = 0;
let picture = { count: 0, at: 0, sent: 0 }; // the latest of the camera, how many there were when one was sent
let lost = false;
let answers = []; // times of late
let latency = 0;
let skipped = 0;

async function start() {
  byId("live-start").disabled = true;
  note(byId("live-note"), "");
  try {
    stream = await openCamera();
    stream.getVideoTracks()[0].onended = () => finish("The camera was taken away.");
    video.srcObject = stream;
    await video.play();
  } catch (error) {
    byId("live-start").disabled = false;
    return finish(error.message);
  }
  video.classList.add("on");
  byId("live-empty").hidden = byId("live-start").hidden = true;
  byId("live-stop").hidden = false;
  byId("live-stop").focus();
  [answers, latency, skipped, lost] = [[], 0, 0, false];
  picture = { count: 0, at: performance.now(), sent: 0 };
  threshold.load().catch(() => { /* The session itself says what is wrong. */ });
  socket.open();
  requestAnimationFrame(paint);
}

function finish(reason = "") {
  socket.close();
  if (stream) stopCamera(stream);
  stream = null;
  video.srcObject = null;
  video.classList.remove("on");
  tracks.clear();
  strangers.clear();
  tracks.draw(overlay, performance.now());
  byId("live-empty").hidden = byId("live-start").hidden = byId("live-start").disabled = false;
  byId("live-stop").hidden = true;
  for (const id of ["live-rate", "live-latency", "live-skipped"]) byId(id).textContent = "–";
  note(byId("live-note"), reason, "bad");
}

function paint(now) {
  if (!stream) return;
  tracks.draw(overlay, now);
  look(now);
  if (socket.ready && !encoding && now - sentAt >= SHORTEST_PAUSE && picture.count !== picture.sent && video.videoWidth) {
    [sentAt, picture.sent] = [now, picture.count];
    capture();
  }
  requestAnimationFrame(paint);
}

/** Whether the camera goes on: the last picture of one that hangs is nobody's presence. */
function look(now) {
  const count = video.getVideoPlaybackQuality().totalVideoFrames;
  if (count !== picture.count) [picture.count, picture.at, lost] = [count, now, false];
  if (lost || now - picture.at < SILENT) return;
  lost = true;
  strangers.clear();
  showFault("The camera gives no pictures.");
}

async function capture() {
  encoding = true;
  try {
    const scale = Math.min(1, LONGER_SIDE / Math.max(video.videoWidth, video.videoHeight));
    [frame.width, frame.height] = [Math.round(video.videoWidth * scale), Math.round(video.videoHeight * scale)];
    frame.getContext("2d").drawImage(video, 0, 0, frame.width, frame.height);
    await socket.send(await jpeg(frame, QUALITY));
  } finally {
    encoding = false;
  }
}

socket.addEventListener("answer", ({ detail }) => {
  if (!stream) return;
  const now = performance.now();
  const { faces } = detail.answer;
  tracks.update(detail.answer, now);
  attendance.update(faces);
  strangers.update(faces, detail.picture);
  answers = [...answers.filter((at) => now - at < RATE_WINDOW), now];
  latency += (detail.latency - latency) * (latency ? 0.15 : 1);
  skipped += detail.answer.skipped;
  const span = answers.length > 1 ? (answers.length - 1) / ((now - answers[0]) / 1000) : 0;
  byId("live-rate").textContent = span.toFixed(1);
  byId("live-latency").textContent = `${Math.round(latency)} ms`;
  byId("live-skipped").textContent = skipped;
  if (byId("live-note").dataset.fault) showFault("");
});

function showFault(text) {
  note(byId("live-note"), text, "bad");
  byId("live-note").dataset.fault = text;
}

socket.addEventListener("fault", ({ detail }) => { if (stream) showFault(detail.message); });
socket.addEventListener("state", ({ detail: { state, reason } }) => {
  byId("live-state").textContent = { connecting: "connecting", open: "open", waiting: "lost, trying again", closed: "off" }[state];
  if (state === "waiting") {
    tracks.clear();
    strangers.clear();
  }
  if (state === "closed" && reason) finish(reason);
});

const sendThreshold = () => socket.configure(threshold.parameters);
let settling = null;
threshold.addEventListener("change", () => {
  clearTimeout(settling);
  settling = setTimeout(sendThreshold, SETTLED);
});

byId("live-liveness").onchange = () => socket.configure({ liveness: byId("live-liveness").checked });

byId("live-start").onclick = start;
byId("live-stop").onclick = () => { finish(); byId("live-start").focus(); };
byId("live-forget").onclick = () => attendance.clear();
const reopen = () => { if (stream) { socket.close(); socket.open(); } };
onBack(reopen);
onKeyChange(reopen);

export function show() { /* Nothing happens before the camera is started. */ }
/** The camera is on only while it can be seen that it is. */
export function hide() { if (stream) finish(); }
