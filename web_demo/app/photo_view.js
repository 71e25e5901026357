import { takePhoto } from "./camera.js";
import { classify } from "./classify.js";
import { byId, element, milliseconds, pause } from "./dom.js";
import { decode } from "./photo.js";
import { doTask } from "./tasks.js";

/** Choosing and taking photos, and their answers; `chosen()` returns the `{artefact, backend}` to ask. */
export class PhotoView {
  #photo = null; // the last one, to ask another model about it
  #chosen;

  constructor(chosen) {
    this.#chosen = chosen;
    byId("file").onchange = () => this.#fileChosen();
    byId("camera").onclick = () => doTask(() => this.#shoot());
  }

  /** Asks the chosen model about the same photo again. */
  again() {
    if (this.#photo) doTask(() => this.#answer());
  }

  #fileChosen() {
    const [file] = byId("file").files;
    if (!file) return;
    doTask(async () => {
      this.#clear("Working");
      await this.#show(file, await decode(file));
    }).finally(() => (byId("file").value = "")); // so that the same file can be chosen again
  }

  async #shoot() {
    const bitmap = await takePhoto();
    if (!bitmap) return;
    this.#clear("Working");
    const picture = await pictureOf(bitmap);
    await this.#show(picture, await decode(bitmap));
  }

  async #show(picture, photo) {
    const preview = byId("preview");
    URL.revokeObjectURL(preview.src);
    preview.src = URL.createObjectURL(picture);
    preview.hidden = false;
    this.#photo = photo;
    await this.#answer();
  }

  async #answer() {
    this.#clear("Working");
    await pause();
    const { artefact, backend } = this.#chosen();
    try {
      const answer = await classify(this.#photo.image, artefact, backend);
      byId("top").replaceChildren(...answer.top.map(lineOf));
      byId("timing").textContent = timingOf(answer, this.#photo);
    } catch (error) {
      this.#clear("");
      throw error;
    }
  }

  #clear(text) {
    byId("top").replaceChildren();
    byId("timing").textContent = text;
  }
}

function lineOf({ label, probability }) {
  const bar = element("meter");
  bar.value = probability;
  bar.ariaHidden = "true";
  return element("li", element("span", label), element("span", `${(100 * probability).toFixed(1)} %`), bar);
}

function timingOf({ preprocessMs, inferenceMs, runs }, { image, transparent }) {
  const parts = [
    `Preprocessing ${milliseconds(preprocessMs)}, inference ${milliseconds(inferenceMs)} (median of ${runs} runs).`,
    `${image.width} x ${image.height} pixels.`,
  ];
  if (transparent) parts.push("Parts of it are transparent: their colours, and the answer, may differ from Python's.");
  return parts.join(" ");
}

async function pictureOf(bitmap) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  return canvas.convertToBlob({ type: "image/jpeg" });
}
