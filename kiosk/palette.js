// A picture's few colours, as Pillow's fast octree finds them (https://pillow.readthedocs.io: Quantize.FASTOCTREE).
//
// Colours are counted in 4,096 fine boxes and in 64 coarse ones of 64 fine boxes each. Every coarse box that holds
// anything gets a place in the palette; what places are left go to the fullest fine boxes, which are taken out of the
// coarse ones. Which of two boxes of the same count comes first is part of the answer: a sort that keeps their order.

const FINE = 4; // bits of each channel
const COARSE = 2;

/**
 * @param {Uint8ClampedArray} pixels RGB, three bytes each
 * @returns {{colours: Uint8Array, indices: Uint8Array}} the palette, three bytes a colour, and each pixel's place in it
 */
export function palette(pixels, size) {
  const fine = counted(pixels);
  const coarse = coarser(fine);
  const order = sorted(fine).subarray(0, size);
  let places = Math.min(used(coarse), size);
  let taken = size - places;
  subtract(coarse, fine, order.subarray(0, taken));
  for (let left = used(coarse); places > left; left = used(coarse)) {
    places = left;
    subtract(coarse, fine, order.subarray(taken, size - places));
    taken = size - places;
  }
  const colours = new Uint8Array(3 * (places + taken));
  sorted(coarse).subarray(0, places).forEach((box, k) => colours.set(mean(coarse, box), 3 * k));
  order.subarray(0, taken).forEach((box, k) => colours.set(mean(fine, box), 3 * (places + k)));
  return { colours, indices: looked(pixels, colours, places) };
}

/** Boxes as rows of four numbers: count, sums of red, green and blue. */
function counted(pixels) {
  const boxes = new Float64Array(4 << (3 * FINE));
  for (let at = 0; at < pixels.length; at += 3) {
    const box = 4 * place(pixels[at], pixels[at + 1], pixels[at + 2], FINE);
    boxes[box] += 1;
    for (let c = 0; c < 3; c++) boxes[box + 1 + c] += pixels[at + c];
  }
  return boxes;
}

function place(red, green, blue, bits) {
  const by = 8 - bits;
  return ((red >> by) << (2 * bits)) | ((green >> by) << bits) | (blue >> by);
}

/** The coarse box that a fine box lies in. */
function around(fine) {
  const by = FINE - COARSE;
  const mask = (1 << FINE) - 1;
  return ((fine >> (2 * FINE + by)) << (2 * COARSE)) | (((fine >> FINE) & mask) >> by << COARSE) | ((fine & mask) >> by);
}

function coarser(fine) {
  const boxes = new Float64Array(4 << (3 * COARSE));
  for (let k = 0; k < fine.length; k += 4) for (let c = 0; c < 4; c++) boxes[4 * around(k / 4) + c] += fine[k + c];
  return boxes;
}

function used(boxes) {
  let count = 0;
  for (let k = 0; k < boxes.length; k += 4) if (boxes[k] > 0) count += 1;
  return count;
}

/** The boxes' numbers, the fullest first: each sorted as one number, which ends in the box's own. */
function sorted(boxes) {
  const count = boxes.length / 4;
  const keys = new Float64Array(count);
  for (let k = 0; k < count; k++) keys[k] = k - boxes[4 * k] * count;
  keys.sort();
  for (let k = 0; k < count; k++) keys[k] -= Math.floor(keys[k] / count) * count;
  return keys;
}

function mean(boxes, box) {
  const count = boxes[4 * box];
  return [1, 2, 3].map((c) => (count ? Math.min(255, Math.trunc(Math.fround(boxes[4 * box + c] / count))) : 0));
}

function subtract(coarse, fine, boxes) {
  for (const box of boxes) {
    if (!fine[4 * box]) continue;
    const from = 4 * place(...mean(fine, box), COARSE);
    for (let c = 0; c < 4; c++) coarse[from + c] -= fine[4 * box + c];
  }
}

/** Each pixel's place in the palette: its fine box's, or that of the coarse box around it. */
function looked(pixels, colours, places) {
  const placed = (k, bits) => place(colours[3 * k], colours[3 * k + 1], colours[3 * k + 2], bits);
  const coarse = new Uint8Array(1 << (3 * COARSE));
  for (let k = places - 1; k >= 0; k--) coarse[placed(k, COARSE)] = k;
  const fine = new Uint8Array(1 << (3 * FINE));
  for (let k = 0; k < fine.length; k++) fine[k] = coarse[around(k)];
  for (let k = colours.length / 3 - 1; k >= places; k--) fine[placed(k, FINE)] = k;
  const indices = new Uint8Array(pixels.length / 3);
  for (let k = 0; k < indices.length; k++) indices[k] = fine[place(pixels[3 * k], pixels[3 * k + 1], pixels[3 * k + 2], FINE)];
  return indices;
}
