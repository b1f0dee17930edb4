// A picture file, or a camera's frame, as upright pixels. Colours are taken as they stand in the file, without its colour
// profile, as Python does it.

import { inspect } from "./containers.js";
import { Refusal } from "./refusal.js";

const LONGEST = 4096; // beyond it the browser shrinks the picture first, so that memory stays within 64 MiB

/** @param {Blob | ImageData} source @returns {Promise<{pixels: Uint8ClampedArray, width: number, height: number}>} */
export async function decoded(source) {
  if (source instanceof ImageData) return { pixels: source.data, width: source.width, height: source.height };
  const bitmap = await opened(source);
  try {
    return read(bitmap);
  } finally {
    bitmap.close();
  }
}

async function opened(blob) {
  inspect(new Uint8Array(await blob.arrayBuffer()));
  try {
    return await createImageBitmap(blob, { imageOrientation: "from-image", premultiplyAlpha: "none", colorSpaceConversion: "none" });
  } catch {
    throw new Refusal("picture-broken");
  }
}

function read(bitmap) {
  const shrunk = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * shrunk)));
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  return { pixels: context.getImageData(0, 0, width, height).data, width, height };
}
