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
  const order = sorted(fine);
  let places = Math.min(used(coarse), size);
  let taken = size - places;
  subtract(coarse, order.slice(0, taken));
  for (let left = used(coarse); places > left; left = used(coarse)) {
    places = left;
    subtract(coarse, order.slice(taken, size - places));
    taken = size - places;
  }
  const boxes = [...sorted(coarse).slice(0, places), ...order.slice(0, taken)];
  return { colours: Uint8Array.from(boxes.flatMap(mean)), indices: looked(pixels, boxes, places) };
}

/** Boxes as rows of four: count, sums of red, green and blue. */
function counted(pixels) {
  const boxes = Array.from({ length: 1 << (3 * FINE) }, () => [0, 0, 0, 0]);
  for (let at = 0; at < pixels.length; at += 3) {
    const box = boxes[place(pixels[at], pixels[at + 1], pixels[at + 2], FINE)];
    box[0] += 1;
    for (let c = 0; c < 3; c++) box[1 + c] += pixels[at + c];
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
  const boxes = Array.from({ length: 1 << (3 * COARSE) }, () => [0, 0, 0, 0]);
  fine.forEach((box, k) => box[0] && box.forEach((value, c) => (boxes[around(k)][c] += value)));
  return boxes;
}

const used = (boxes) => boxes.reduce((count, box) => count + (box[0] > 0 ? 1 : 0), 0);
const sorted = (boxes) => [...boxes].sort((a, b) => b[0] - a[0]);

function mean([count, ...sums]) {
  return sums.map((sum) => (count ? Math.min(255, Math.trunc(Math.fround(sum / count))) : 0));
}

function subtract(coarse, boxes) {
  for (const box of boxes) {
    if (!box[0]) continue;
    const from = coarse[place(...mean(box), COARSE)];
    box.forEach((value, c) => (from[c] -= value));
  }
}

/** Each pixel's place in the palette: its fine box's, or that of the coarse box around it. */
function looked(pixels, boxes, places) {
  const coarse = new Uint8Array(1 << (3 * COARSE));
  for (let k = places - 1; k >= 0; k--) coarse[place(...mean(boxes[k]), COARSE)] = k;
  const fine = Uint8Array.from({ length: 1 << (3 * FINE) }, (_, k) => coarse[around(k)]);
  for (let k = boxes.length - 1; k >= places; k--) fine[place(...mean(boxes[k]), FINE)] = k;
  const indices = new Uint8Array(pixels.length / 3);
  for (let k = 0; k < indices.length; k++) indices[k] = fine[place(pixels[3 * k], pixels[3 * k + 1], pixels[3 * k + 2], FINE)];
  return indices;
}
