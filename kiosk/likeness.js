// What a shop has that is like a picture: an index that `seamline index` wrote, and the nearest in it by cosine.
// The layout of the file: seamline/likeness.py.

import { sha256 } from "./bundle.js";
import { Refusal } from "./refusal.js";

const FORMAT = "seamline likeness 2";
const LARGEST_HEADER_BYTES = 4096;
export const LARGEST_BYTES = 64 * 2 ** 20;
const ALIKE = 0.86; // seamline/similar.py

/** @param {Uint8Array} content @param {string} model digest of the model that is to use it */
export async function index(content, model) {
  const length = content.length >= 8 ? Number(new DataView(content.buffer, content.byteOffset).getBigUint64(0, true)) : 0;
  if (!length || length > LARGEST_HEADER_BYTES || 8 + length > content.length) throw broken("no such header");
  const told = header(content.subarray(8, 8 + length));
  const { shape } = told.embeddings;
  const [count, width] = shape;
  const body = content.slice(8 + length); // a copy, so that floats are aligned
  const embeddings = new Float32Array(body.buffer, 0, count * width);
  const names = new TextDecoder().decode(body.subarray(4 * count * width)).split("\0");
  if (names.length !== count || body.length !== 4 * count * width + told.names.shape[0]) throw broken("it is not as long as its header says");
  if (((await sha256(body)) ?? told.__metadata__.sha256) !== told.__metadata__.sha256) throw broken("its SHA-256 is another");
  if (told.__metadata__.model !== model) throw new Refusal("index-other", `Another model made it: ${told.__metadata__.model.slice(0, 12)}.`);
  return { names, embeddings, width };
}

function header(bytes) {
  let told;
  try {
    told = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw broken("its header is no JSON");
  }
  const numbers = [...(told?.embeddings?.shape ?? []), ...(told?.names?.shape ?? [])];
  const sound = numbers.length === 3 && numbers.every((number) => Number.isSafeInteger(number) && number > 0);
  const { format, model, sha256: digest } = told?.__metadata__ ?? {};
  if (!sound || format !== FORMAT || typeof model !== "string" || typeof digest !== "string" || 4 * numbers[0] * numbers[1] > LARGEST_BYTES)
    throw broken("its header is of another format");
  return told;
}

const broken = (why) => new Refusal("index-broken", `index.safetensors: ${why}.`);

/** The names of at most `k` that are alike, with their cosines, the most alike first. */
export function nearest({ names, embeddings, width }, asked, k) {
  const found = names.map((name, row) => {
    let product = 0;
    for (let c = 0, at = row * width; c < width; c++, at++) product += embeddings[at] * asked[c];
    return { name, likeness: Math.min(1, Math.max(-1, product)) };
  });
  return found.filter(({ likeness }) => likeness >= ALIKE).sort((a, b) => b.likeness - a.likeness).slice(0, k);
}
