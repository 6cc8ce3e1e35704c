/** Connect the page's events with the network: load it, take a photo, explain a class. */

import { openArtifact } from "./artifact.js";
import { PREDICTED } from "./ask.js";
import { startCamera, stopCamera, takePhoto } from "./camera.js";
import { onSearch } from "./classes.js";
import { download } from "./download.js";
import { loadNamedModel } from "./elsewhere.js";
import { UserError } from "./errors.js";
import { listenForFiles } from "./intake.js";
import { keepOffline } from "./offline.js";
import { formatMegabytes, openPhoto } from "./photo.js";
import { canShare, composePicture, savePicture, sharePicture } from "./picture.js";
import * as view from "./view.js";

const ASSETS = "./assets/";
const query = new URLSearchParams(location.search);
const options = { backend: query.get("backend"), threads: Number(query.get("threads")) || null };
const video = document.getElementById("video");

let artifact = null; // the network that answers
let photo = null; // the photo that is explained
let answer = null; // to that photo
let palettes = null;
let work = Promise.resolve(); // one task at a time, in the order of the requests

/** Run a task after all earlier ones, and show its error on the page. */
function enqueue(task) {
  work = work.then(async () => {
    try {
      await task();
    } catch (error) {
      if (!(error instanceof UserError)) console.error(error);
      view.showError(error instanceof UserError ? error.message : `Something went wrong: ${error.message ?? error}`);
    }
  });
  return work;
}

async function loadSite() {
  const site = JSON.parse(new TextDecoder().decode(await download(`${ASSETS}site.json`)));
  palettes = site.palettes;
  view.showExamples(site.examples.map((example) => ({ ...example, file: ASSETS + example.file })), takeExample);
  const onProgress = (share, loaded) => view.showModel(`Loading the network, ${formatMegabytes(loaded)}`, share || null);
  const named = query.get("model");
  const { bytes, name, from } = named
    ? await loadNamedModel(named, onProgress)
    : { bytes: await download(ASSETS + site.model, { bytes: site.bytes, onProgress }), name: site.model, from: null };
  await useArtifact(bytes, name, from);
  keepOffline(site.version).catch((error) => console.warn(`The page is not kept offline: ${error.message}`));
}

/** The colors that suit an artifact's maps. */
function chooseLook({ metadata }) {
  const diverging = metadata.cam_range[0] !== 0;
  return { palette: palettes[diverging ? "diverging" : "plain"], diverging };
}

/** @param {string | null} from the host of a network from elsewhere */
async function useArtifact(bytes, name, from = null) {
  view.setState("model", "loading");
  view.showModel(`Starting ${name}`);
  const opened = await openArtifact(bytes, name, options);
  await artifact?.close();
  artifact = { ...opened, from };
  view.showScale(chooseLook(artifact));
  if (photo) await explain(PREDICTED);
}

/** Load an artifact; where that fails, the artifact before stays. */
function enqueueArtifact(load) {
  return enqueue(async () => {
    try {
      await load();
    } finally {
      view.setState("model", artifact ? "ready" : "missing");
      view.showModel(artifact ? view.describeArtifact(artifact, artifact.from) : "No network is loaded.");
    }
  });
}

async function usePhoto(file) {
  const opened = await openPhoto(file);
  photo?.close();
  [photo, answer] = [opened, null];
  leaveCamera();
  view.showError("");
  view.showPhoto(photo);
  view.setState("state", "result");
  if (!artifact) throw new UserError("The photo waits for a network: open an artifact (.onnx).");
  await explain(PREDICTED);
  view.sweep();
}

async function explain(classIdx) {
  view.setState("busy", "yes");
  await waitForPaint();
  try {
    answer = await artifact.explain(photo, classIdx);
    view.showAnswer(answer, artifact.metadata, photo, chooseLook(artifact), (rank) => enqueue(() => explain(rank)));
    // For pages that embed this one, and for the tests.
    dispatchEvent(new CustomEvent("explained", { detail: { ...answer, metadata: artifact.metadata } }));
  } finally {
    view.setState("busy", "no");
  }
}

/** Wait until the page is painted, because the network then blocks this thread. */
function waitForPaint() {
  return new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
}

function take(file) {
  if (!file.name.toLowerCase().endsWith(".onnx")) return enqueue(() => usePhoto(file));
  return enqueueArtifact(async () => {
    view.showError("");
    await useArtifact(new Uint8Array(await file.arrayBuffer()), file.name);
  });
}

function takeExample(url) {
  enqueue(async () => usePhoto(new File([await download(url)], url.split("/").at(-1))));
}

/** Make the picture as the page shows it, and give it to a function. */
async function usePicture(use) {
  if (!answer) throw new UserError("There is no heatmap yet: open an artifact (.onnx) first.");
  const elements = Object.fromEntries(["photo", "heatmap", "scale"].map((id) => [id, document.getElementById(id)]));
  const strength = Number(document.getElementById("strength").value) / 100;
  const picture = await composePicture(elements, answer, artifact.metadata, strength);
  const name = `${photo.name.replace(/\.[^.]*$/, "") || "photo"}-overlay.png`;
  await use(new File([picture], name, { type: picture.type }));
}

function leaveCamera() {
  stopCamera(video);
  view.setState("state", photo ? "result" : "empty");
}

const ACTIONS = {
  choose: () => document.getElementById("file").click(),
  "choose-model": () => document.getElementById("model-file").click(),
  camera: () => enqueue(async () => {
    await startCamera(video);
    view.showError("");
    view.setState("state", "camera");
  }),
  shoot: () => enqueue(async () => usePhoto(await takePhoto(video))),
  "stop-camera": leaveCamera,
  save: () => enqueue(() => usePicture(savePicture)),
  share: () => enqueue(() => usePicture(sharePicture)),
};

document.addEventListener("click", (event) => ACTIONS[event.target.closest("[data-action]")?.dataset.action]?.());
document.getElementById("classes").addEventListener("change", (event) =>
  enqueue(() => explain(Number(event.target.value))));
document.getElementById("search").addEventListener("input", onSearch);
document.getElementById("share").hidden = !canShare();
document.getElementById("reveal").addEventListener("input", view.onReveal);
document.getElementById("strength").addEventListener("input", view.onStrength);
document.getElementById("alert-close").addEventListener("click", () => view.showError(""));
listenForFiles(take);
enqueueArtifact(loadSite);
