// The model in onnxruntime-web: one thread, so that a page needs no special headers and leaves other cores alone.

import { contract } from "./onnx.js";
import { SIDE } from "./pictures.js";
import { Refusal } from "./refusal.js";

const VENDOR = new URL("vendor/", import.meta.url);
let library;

/** onnxruntime-web, loaded once. */
async function runtime() {
  library ??= import(new URL("ort.wasm.bundle.min.mjs", VENDOR)).catch((error) => {
    library = undefined;
    throw new Refusal("runtime-absent", error.message);
  });
  const ort = await library;
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = { wasm: new URL("ort-wasm-simd-threaded.wasm", VENDOR).href };
  return ort;
}

/** Loads and compiles onnxruntime-web while the bundle is fetched: it does so for its first session, even of no model. */
export async function warm() {
  const ort = await runtime();
  await ort.InferenceSession.create(new Uint8Array(1)).catch(() => undefined);
}

/** A model that answers; `open` has it prove itself by the bundle's golden images first. */
export class Model {
  static async open({ manifest, files }) {
    const { classes, below, odds } = contract(files["model.onnx"]);
    if (JSON.stringify(classes) !== JSON.stringify(manifest.classes))
      throw new Refusal("bundle-broken", "manifest.json names other classes than its model.");
    const ort = await runtime();
    const session = await ort.InferenceSession.create(files["model.onnx"], { executionProviders: ["wasm"] }).catch((error) => {
      throw new Refusal("model-broken", error.message);
    });
    const model = new Model(ort, session, classes, below, odds);
    try {
      await model.#prove(JSON.parse(new TextDecoder().decode(files["golden.json"])));
    } catch (error) {
      await model.close(); // its memory is not the garbage collector's
      throw error;
    }
    return model;
  }

  #ort;
  #session;

  #odds;

  constructor(ort, session, classes, below, odds) {
    [this.#ort, this.#session, this.classes, this.below, this.#odds] = [ort, session, classes, below, odds];
  }

  /**
   * @param {Uint8Array[]} images 784 grey levels each
   * @returns {Promise<{probabilities: Float32Array, embedding: Float32Array | undefined}>} row after row
   */
  async run(images) {
    const pixels = new Uint8Array(images.length * SIDE * SIDE);
    images.forEach((image, k) => pixels.set(image, k * SIDE * SIDE));
    const image = new this.#ort.Tensor("uint8", pixels, [images.length, SIDE, SIDE]);
    const found = await this.#session.run({ image });
    image.dispose();
    return { probabilities: found.probabilities.data, embedding: found.embedding?.data };
  }

  /** What the views of one garment show: each class's probability, weighed if they are a photograph's, and where the first view lies. */
  async classify(views) {
    const { probabilities, embedding } = await this.run(views);
    const count = this.classes.length;
    const means = this.classes.map((_, k) => views.reduce((sum, __, view) => sum + probabilities[view * count + k], 0) / views.length);
    const weighed = means.map((mean, k) => (views.length > 1 ? mean * this.#odds[k] : mean));
    const sum = weighed.reduce((before, one) => before + one, 0);
    return { probabilities: weighed.map((one) => one / sum), embedding: embedding && normalised(embedding.subarray(0, embedding.length / views.length)) };
  }

  async #prove({ images, probabilities, tolerance }) {
    const those = images.map((text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0)));
    const found = (await this.run(those)).probabilities;
    const count = this.classes.length;
    const expected = probabilities.flat();
    const distance = Math.max(...expected.map((value, k) => Math.abs(value - found[k])));
    const others = probabilities.filter((row, k) => best(row) !== best(found.subarray(k * count, (k + 1) * count))).length;
    if (!(distance <= tolerance) || others)
      throw new Refusal("model-wrong", `Probabilities differ by ${distance.toPrecision(2)} from the golden vectors, ${tolerance} is allowed; ${others} images get another class.`);
  }

  close() {
    return this.#session.release();
  }
}

const best = (row) => row.indexOf(Math.max(...row));

function normalised(row) {
  const length = Math.max(Math.hypot(...row), 1e-12);
  return row.map((value) => value / length);
}
