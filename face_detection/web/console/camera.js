// The camera, and a dialog that takes a photo with it.
import { answered, byId, note } from "./dom.js";
import { jpeg } from "./pictures.js";

/** A video stream of the camera; rejects with a message that says what to do. */
export async function openCamera() {
  if (!navigator.mediaDevices) throw new Error("Browsers give the camera only to pages on this machine (localhost) or with https.");
  try {
    return await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 }, facingMode: "user" }, audio: false });
  } catch (error) {
    if (error.name === "NotAllowedError") throw new Error("The browser does not let this page use the camera.");
    if (error.name === "NotFoundError") throw new Error("There is no camera.");
    throw new Error(`The camera cannot be used: ${error.message}`);
  }
}

/** Let somebody take a photo: a JPEG file, or null. */
export async function takePhoto() {
  const dialog = byId("camera-dialog"), video = byId("camera-video"), take = byId("camera-take");
  let stream = null;
  take.disabled = true;
  note(byId("camera-note"), "");
  const closed = answered(dialog);
  openCamera().then(async (opened) => {
    stream = opened;
    if (!dialog.open) return stop(stream);
    video.srcObject = stream;
    await video.play();
    take.disabled = false;
    take.focus();
  }).catch((error) => note(byId("camera-note"), error.message, "bad"));
  let photo = null;
  take.onclick = async () => {
    take.disabled = true;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d").drawImage(video, 0, 0);
    const blob = await jpeg(canvas, 0.92);
    photo = new File([blob], `camera ${new Date().toTimeString().slice(0, 8).replaceAll(":", "-")}.jpg`, { type: "image/jpeg" });
    dialog.close();
  };
  await closed;
  video.srcObject = null;
  if (stream) stop(stream);
  return photo;
}

/** Switch the camera off. */
export const stop = (stream) => stream.getTracks().forEach((track) => track.stop());
