// Pictures as the arrays that the model takes: seamline/pictures.py in JavaScript, function by function, so that a page
// and a program say the same of the same garment. No part of a browser is needed: tests run it in Node.js.

import { garment } from "./foreground.js";
import { Refusal } from "./refusal.js";
import { FILTERS, reduced, resizeFloats, rounded, scaled } from "./resample.js";

export const SIDE = 28;
const ENOUGH = 256; // pixels of the longest edge: from twice as many on, blocks of 2 × 2, 4 × 4 … become one
const TRIM_TOLERANCE = 16; // grey levels from the corner's colour that still count as plain ground
const PLAIN_SHARE = 0.98; // of the pixels at the border: more on one colour is a product shot
const NARROWER = [0.8, 0.7, 0.9]; // width of a garment that is worn, to one that lies flat: the likeliest first
const DARKEST = 30; // grey level of a photographed garment, so that white ones do not vanish on black
const MIDDLE_GREY = 127;
const OPAQUE = 128;
const HALF = 0.5;

/**
 * The views of the garment in a picture: average what the model says of them.
 *
 * @param {{pixels: Uint8ClampedArray, width: number, height: number}} rgba upright, four bytes a pixel, of any size
 * @returns {Uint8Array[]} 784 grey levels each, bright on black: one view of a product shot, six of a photograph
 */
export function views(rgba) {
  const picture = onWhite(reduced(rgba, block(Math.max(rgba.width, rgba.height))));
  const grey = greyOf(picture.pixels);
  const { width, height } = picture;
  if (width === SIDE && height === SIDE && grey[0] === 0 && isGrey(picture.pixels)) return [grey];
  const negated = negative(grey);
  const whole = (mask) => ({ mask, width, height });
  if (picture.alpha) return [framed(cutOut(negated, width, height, whole(picture.alpha.map((level) => (level >= OPAQUE ? 1 : 0)))))];
  const { plain, ground } = productShot(grey, width, height);
  if (plain) return [framed(cutOut(ground <= MIDDLE_GREY ? grey : negated, width, height, whole(plain)))];
  const found = cutOut(atLeast(negated, DARKEST), width, height, garment(picture));
  const narrower = NARROWER.map((share) => framed(found, share));
  return [...narrower, ...narrower.map(mirrored)];
}

/** The side of the blocks of pixels that become one: a power of two, as JPEG has them. */
function block(longest) {
  let side = 1;
  while (longest >= 2 * side * ENOUGH) side *= 2;
  return side;
}

/** RGB on white, and what is transparent; no `alpha` if nothing is. */
function onWhite({ pixels, width, height }) {
  const [rgb, alpha] = [new Uint8ClampedArray(width * height * 3), new Uint8Array(width * height)];
  let clear = false;
  for (let k = 0, at = 0, out = 0; k < alpha.length; k++, at += 4, out += 3) {
    const how = (alpha[k] = pixels[at + 3]);
    clear ||= how < 255;
    for (let c = 0; c < 3; c++) rgb[out + c] = how === 255 ? pixels[at + c] : blended(pixels[at + c], how);
  }
  return { pixels: rgb, width, height, alpha: clear ? alpha : undefined };
}

const blended = (level, alpha) => scaled(1, level * alpha + 255 * (255 - alpha));

/** ITU-R 601 in sixteen binary places, as Pillow has it. */
function greyOf(rgb) {
  const grey = new Uint8Array(rgb.length / 3);
  for (let k = 0, at = 0; k < grey.length; k++, at += 3) grey[k] = (rgb[at] * 19595 + rgb[at + 1] * 38470 + rgb[at + 2] * 7471 + 0x8000) >> 16;
  return grey;
}

function negative(grey) {
  const levels = new Uint8Array(grey.length);
  for (let k = 0; k < grey.length; k++) levels[k] = 255 - grey[k];
  return levels;
}

function atLeast(grey, least) {
  const levels = new Uint8Array(grey.length);
  for (let k = 0; k < grey.length; k++) levels[k] = Math.max(grey[k], least);
  return levels;
}

function isGrey(rgb) {
  for (let at = 0; at < rgb.length; at += 3) if (rgb[at] !== rgb[at + 1] || rgb[at] !== rgb[at + 2]) return false;
  return true;
}

/** What differs from a plain ground, if it is plain; and the grey of the ground. */
function productShot(grey, width, height) {
  const border = [...grey.subarray(0, width), ...grey.subarray(width * (height - 1))];
  for (let row = 0; row < height; row++) border.push(grey[row * width], grey[row * width + width - 1]);
  const order = Uint8Array.from(border).sort();
  const ground = Math.trunc((order[(order.length - 1) >> 1] + order[order.length >> 1]) / 2);
  let alike = 0;
  for (const level of border) if (Math.abs(level - ground) <= TRIM_TOLERANCE) alike += 1;
  if (alike / border.length < PLAIN_SHARE) return { ground };
  return { plain: grey.map((level) => (Math.abs(level - ground) > TRIM_TOLERANCE ? 1 : 0)), ground };
}

/** What the mask, which may be smaller, shows of a picture, on black; and the box around it. */
function cutOut(grey, width, height, { mask, width: maskWidth, height: maskHeight }) {
  const opaque = resizeFloats(Float32Array.from(mask), maskWidth, maskHeight, width, height, FILTERS.bilinear);
  const box = boxOf(opaque, width, height);
  if (!box) throw new Refusal("no-garment");
  for (let k = 0; k < opaque.length; k++) opaque[k] *= grey[k];
  return { lit: opaque, width, height, box };
}

/** Centred on 28 × 28, the longest edge 28 pixels; the width is multiplied with `share` first. */
function framed({ lit, width, height, box }, share = 1) {
  const [across, down] = [(box[2] - box[0]) * share, box[3] - box[1]];
  const scale = SIDE / Math.max(across, down);
  const [wide, high] = [across, down].map((side) => Math.max(1, rounded(side * scale)));
  const small = resizeFloats(lit, width, height, wide, high, FILTERS.box, box);
  const canvas = new Uint8Array(SIDE * SIDE);
  const [top, left] = [(SIDE - high + 1) >> 1, (SIDE - wide + 1) >> 1]; // as most of Fashion-MNIST, where it is odd
  for (let row = 0; row < high; row++)
    for (let column = 0; column < wide; column++)
      canvas[(top + row) * SIDE + left + column] = Math.min(255, Math.max(0, rounded(small[row * wide + column])));
  return canvas;
}

/** Left, top, right and bottom of what is more than half opaque. */
function boxOf(opaque, width, height) {
  let [left, top, right, bottom] = [width, height, 0, 0];
  for (let row = 0, k = 0; row < height; row++)
    for (let column = 0; column < width; column++, k++)
      if (opaque[k] > HALF) {
        left = Math.min(left, column);
        right = Math.max(right, column + 1);
        top = Math.min(top, row);
        bottom = row + 1;
      }
  return right ? [left, top, right, bottom] : undefined;
}

function mirrored(view) {
  const other = new Uint8Array(view.length);
  for (let k = 0; k < view.length; k++) other[k] = view[k - (k % SIDE) + SIDE - 1 - (k % SIDE)];
  return other;
}
