// Everything that takes time, away from the page, which so never freezes: pictures prepared, the model run.

import * as bundles from "./bundle.js";
import { decoded } from "./decoding.js";
import * as likeness from "./likeness.js";
import { Model, warm } from "./model.js";
import { views } from "./pictures.js";
import { Refusal } from "./refusal.js";

const BUNDLE = new URL("bundle/", import.meta.url);
const INDEX = new URL("index.safetensors", import.meta.url);
const PATIENCE_MS = 8000;
const NEIGHBOURS = 4;

let serving; // { model, manifest, index }: what belongs together
let failed; // the last bundle that could not be used: { name, why }

warm().catch(() => undefined); // said when a model is opened

const tasks = { load, answer, run };

self.onmessage = async ({ data: { id, task, argument } }) => {
  try {
    self.postMessage({ id, result: await tasks[task](argument) });
  } catch (error) {
    self.postMessage({ id, state: error instanceof Refusal ? error.state : "fault", detail: error.detail ?? String(error) });
  }
};

/** The newest bundle that proves itself: the server's, else the one that serves, else the one that was kept. */
async function load() {
  let refused;
  try {
    const manifest = await bundles.manifestAt(BUNDLE);
    const name = bundles.nameOf(manifest);
    if (name === failed?.name) throw failed.why;
    if (!serving || name !== bundles.nameOf(serving.manifest)) await serve(await bundles.fetched(BUNDLE, manifest));
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    refused = error;
    const last = serving ? undefined : await bundles.kept();
    if (!serving && !last) throw error;
    if (last) await serve(last);
  }
  const current = serving;
  current.index = await stock(current).catch((error) => (error instanceof Refusal ? undefined : current.index));
  return { ...told(serving), refused: refused && { state: refused.state, detail: refused.detail } };
}

const told = ({ manifest, model }) => ({ version: manifest.version, classes: model.classes, below: model.below });

async function serve(found) {
  const model = await Model.open(found).catch((why) => {
    if (why.state !== "runtime-absent") failed = { name: bundles.nameOf(found.manifest), why };
    throw why;
  });
  const before = serving;
  serving = { model, manifest: found.manifest };
  await bundles.keep(found).catch(() => undefined); // a full disk: the page works on, but not without a network
  await before?.model.close();
}

/** The index that the server has, if it has one of this model: read only if it is another than before. */
async function stock({ manifest, index }) {
  const response = await fetch(INDEX, { cache: "no-cache", signal: AbortSignal.timeout(PATIENCE_MS) });
  if (!response.ok || Number(response.headers.get("content-length")) > likeness.LARGEST_BYTES) return undefined;
  const tag = response.headers.get("etag");
  if (tag && tag === index?.tag) return index;
  return { tag, ...(await likeness.index(new Uint8Array(await response.arrayBuffer()), bundles.digestOf(manifest))) };
}

/** What a picture shows. */
async function answer(source) {
  if (!serving) throw new Refusal("model-waiting");
  const start = performance.now();
  const seen = views(await decoded(source));
  const prepared = performance.now();
  const { model, manifest, index } = serving; // once: another may serve before the answer is there
  const { probabilities, embedding } = await model.classify(seen);
  const answered = performance.now();
  const { classes, below } = model;
  const order = classes.map((name, k) => ({ name, probability: probabilities[k] })).sort((a, b) => b.probability - a.probability);
  return {
    order,
    unknown: !(order[0].probability >= below),
    seen: seen[0],
    views: seen.length,
    like: index && embedding ? likeness.nearest(index, embedding, NEIGHBOURS) : [],
    version: manifest.version,
    ms: { prepared: prepared - start, answered: answered - prepared },
  };
}

/** The probabilities of images that are prepared already, row after row: for the golden cases. */
async function run(images) {
  return (await serving.model.run(images)).probabilities;
}
