import { EdgeDeitError } from "../core/error.js";
import { byId } from "./dom.js";

const REASONS = {
  NotAllowedError: "the camera is not allowed for this page; allow it in the browser's settings for this address",
  NotFoundError: "this device has no camera; choose a photo instead",
  NotReadableError: "the camera is in use by another program; close that and try again",
};

/** Lets the user take a photo: a bitmap, or null where the dialog was closed. */
export async function takePhoto() {
  const [dialog, video] = [byId("camera-dialog"), byId("viewfinder")];
  const stream = await openCamera();
  try {
    video.srcObject = stream;
    dialog.showModal();
    return await shot(dialog, video);
  } finally {
    stream.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
    dialog.close();
  }
}

async function openCamera() {
  if (!navigator.mediaDevices) {
    throw new EdgeDeitError("browsers give the camera to pages on https or localhost only; choose a photo instead");
  }
  try {
    return await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    throw new EdgeDeitError(REASONS[error.name] ?? `the camera cannot be opened (${error.message})`);
  }
}

function shot(dialog, video) {
  return new Promise((resolve, reject) => {
    byId("shoot").onclick = () => {
      if (video.videoWidth > 0) createImageBitmap(video).then(resolve, reject);
    };
    byId("close-camera").onclick = () => resolve(null);
    dialog.onclose = () => resolve(null);
  });
}
