// What the page's modules make of the golden cases, beside what Python made of them; one JSON object on standard output.
//
//   node contract.mjs KIOSK CASES

import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [kiosk, folder] = process.argv.slice(2);
const { SIDE, views } = await import(pathToFileURL(join(resolve(kiosk), "pictures.js")));
const { pictures } = JSON.parse(await readFile(join(folder, "cases.json"), "utf8"));
const content = await readFile(join(folder, "cases.bin"));

console.log(JSON.stringify(pictures.map(compared)));

function compared({ name, kind, at, width, height, views: count }) {
  const size = width * height * 4;
  const pixels = new Uint8ClampedArray(content.subarray(at, at + size));
  const start = performance.now();
  const found = prepared({ pixels, width, height });
  const ms = performance.now() - start;
  const expected = content.subarray(at + size, at + size + count * SIDE * SIDE);
  const differences = found.flatMap((view, k) => Array.from(view, (level, p) => Math.abs(level - expected[k * SIDE * SIDE + p])));
  return { name, kind, ms, views: found.length, expected: count, most: Math.max(0, ...differences), others: differences.filter((level) => level > 1).length };
}

/** None, where the page would refuse the picture. */
function prepared(rgba) {
  try {
    return views(rgba);
  } catch (error) {
    if (error.state === "no-garment") return [];
    throw error;
  }
}
