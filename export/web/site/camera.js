/** The device's camera: show its picture, and take one photo. */

import { UserError } from "./errors.js";

const REASONS = {
  NotAllowedError: "The camera was refused: allow it for this page in the browser's settings, or choose a photo.",
  NotFoundError: "There is no camera on this device; choose a photo instead.",
  NotReadableError: "The camera is in use by another program; close that, or choose a photo.",
};

/** @param {HTMLVideoElement} video the element that shows the camera's picture */
export async function startCamera(video) {
  if (!navigator.mediaDevices) {
    throw new UserError("Browsers give the camera only to pages from https:// or localhost; choose a photo instead.");
  }
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    await video.play();
  } catch (error) {
    stopCamera(video);
    throw new UserError(REASONS[error.name] ?? `The camera does not start (${error.message}); choose a photo.`);
  }
}

/** @returns {Promise<File>} the current picture of the video */
export async function takePhoto(video) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  return new File([blob], "camera.png", { type: blob.type });
}

export function stopCamera(video) {
  video.srcObject?.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
}
