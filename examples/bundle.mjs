// A bundle in JavaScript: whole, as its manifest says, and right where it is to run.
//
//   node bundle.mjs BUNDLE                                      digests and golden vectors
//   npm install onnxruntime-web && node bundle.mjs BUNDLE       … and the model's own answers
//
// A page does the same with `fetch` in place of `readFile`; Web Crypto and onnxruntime-web are the same there.

import { webcrypto as crypto } from "node:crypto"; // a page has it already
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";

const SIDE = 28;
const [folder] = process.argv.slice(2);
if (!folder) fail("Expected a bundle's folder: node bundle.mjs BUNDLE");

const manifest = JSON.parse(await read("manifest.json"));
const files = await verified(manifest);
console.log(`ok   size and SHA-256 of ${Object.keys(files).length} files: version ${manifest.version}`);

const golden = vectors(JSON.parse(new TextDecoder().decode(files["golden.json"])), manifest.classes.length);
console.log(`ok   ${golden.count} golden images of ${SIDE} × ${SIDE}, probabilities that sum to 1`);

const ort = await runtime();
if (ort) {
  const distance = await distanceFrom(golden, ort, files["model.onnx"]);
  if (!(distance <= golden.tolerance)) fail(`the model's answers differ by ${distance}, ${golden.tolerance} is allowed`);
  console.log(`ok   the model's answers differ by ${distance.toExponential(1)}, ${golden.tolerance} is allowed`);
} else {
  console.log("--   onnxruntime-web is not installed: the model was not asked");
}

async function read(name) {
  return readFile(join(folder, name)).catch((error) => fail(error.message));
}

/** Every file that the manifest names, by name; what is altered, missing or too many ends the program. */
async function verified({ files }) {
  const others = (await readdir(folder)).filter((name) => !Object.hasOwn(files, name) && !["manifest.json", "manifest.sig"].includes(name));
  if (others.length) fail(`the manifest does not name ${others[0]}`);
  const found = {};
  for (const [name, facts] of Object.entries(files)) {
    if (/[/\\]/.test(name)) fail(`${name} is outside the bundle`);
    const content = new Uint8Array(await read(name));
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
    const sha256 = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (content.length !== facts.bytes || sha256 !== facts.sha256) fail(`${name} is altered`);
    found[name] = content;
  }
  return found;
}

/** The golden images as one array of grey levels, image after image, and what must be said of each. */
function vectors({ images, probabilities, tolerance }, classes) {
  const pixels = new Uint8Array(images.length * SIDE * SIDE);
  images.forEach((text, k) => {
    const image = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    if (image.length !== SIDE * SIDE) fail(`golden image ${k} has ${image.length} pixels`);
    pixels.set(image, k * SIDE * SIDE);
  });
  if (probabilities.length !== images.length) fail("golden.json has not one answer for each image");
  for (const row of probabilities) {
    const sum = row.reduce((total, value) => total + value, 0);
    if (row.length !== classes || !(Math.abs(sum - 1) < 1e-3)) fail(`golden probabilities sum to ${sum}`);
  }
  return { count: images.length, pixels, probabilities, tolerance };
}

/** onnxruntime-web, if it is installed; one thread, so that a page needs no special headers. */
async function runtime() {
  const found = await import("onnxruntime-web").catch((error) => {
    if (error.code === "ERR_MODULE_NOT_FOUND") return undefined;
    throw error;
  });
  if (found) found.env.wasm.numThreads = 1;
  return found;
}

/** How far the model's probabilities lie from the golden ones, at most; NaN if it says NaN. */
async function distanceFrom({ count, pixels, probabilities }, ort, model) {
  const session = await ort.InferenceSession.create(model);
  const image = new ort.Tensor("uint8", pixels, [count, SIDE, SIDE]);
  const answers = (await session.run({ image })).probabilities.data;
  const expected = probabilities.flat();
  return Math.max(...expected.map((value, k) => Math.abs(value - answers[k])));
}

function fail(reason) {
  console.error(reason);
  process.exit(1);
}
