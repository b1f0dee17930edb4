// Where in a photograph the garment is: seamline/foreground.py in JavaScript, function by function.
//
// Both count in float64, in an order of their own: what differs is the last bits, and a pixel that is garment by so
// little has yet to be seen (tests/test_kiosk_contract.py).
//
// What goes over all pixels is a loop in a function of the module, here and in what else a photograph goes through: V8
// forgets what it compiled of a function that is made anew for each picture, whenever it collects garbage
// (docs/experiments.md).

import { palette } from "./palette.js";
import { FILTERS, resizeBytes, rounded } from "./resample.js";

export const SIDE = 64; // pixels of the longest edge that the work is done at
const COLOURS = 64; // of the palette
const [GARMENT_COLOURS, GROUND_COLOURS] = [4, 5]; // Gaussians
const [ROUNDS, MEAN_FIELD_ROUNDS, CLUSTER_ROUNDS] = [3, 5, 5];
const SPREAD = 9; // least variance of a colour, in squared units of CIELAB
const SMOOTHNESS = 4; // how much neighbours count
const MIDDLE = 2; // how much the middle of the picture is preferred
const EDGE = 2; // pixels at the border that are ground, until the colours say otherwise
const SURE = 0.9; // from here on a pixel at the edge may be garment
const LESS = 0.6; // weight of the upper and lower edge, which garments touch more often
const KEPT_SHARE = 0.25; // of the main part's weight: smaller parts are dropped
const PARTS = 4; // at most
const STEPS = [[0, 1], [1, 0], [1, 1], [1, -1]]; // to a half of the neighbours; the others are their opposites

/**
 * The garment's pixels, in a reduced picture.
 *
 * @param {{pixels: Uint8ClampedArray, width: number, height: number}} picture RGB, three bytes a pixel
 * @returns {{mask: Uint8Array, width: number, height: number}} 1 where the garment is; nowhere if nothing stands out
 */
export function garment(picture) {
  const scale = SIDE / Math.max(picture.width, picture.height);
  const [width, height] = [picture.width, picture.height].map((side) => Math.max(2 * EDGE + 1, rounded(side * scale)));
  const small =
    width === picture.width && height === picture.height
      ? picture.pixels
      : resizeBytes(picture.pixels, picture.width, picture.height, 3, width, height, FILTERS.box);
  const { colours, indices } = palette(small, COLOURS);
  const logits = settled(lab(small), indices, lab(colours), width, height);
  return { mask: kept(positive(logits), width, height), width, height };
}

function positive(logits) {
  const mask = new Uint8Array(logits.length);
  for (let k = 0; k < mask.length; k++) mask[k] = logits[k] > 0 ? 1 : 0;
  return mask;
}

const LINEAR = Float64Array.from({ length: 256 }, (_, level) => {
  const share = level / 255;
  return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
});

/** From sRGB bytes to CIELAB (D65), three numbers a pixel, without its linear part near black. */
export function lab(rgb) {
  const colours = new Float64Array(rgb.length);
  for (let at = 0; at < rgb.length; at += 3) {
    const [red, green, blue] = [LINEAR[rgb[at]], LINEAR[rgb[at + 1]], LINEAR[rgb[at + 2]]];
    const x = Math.cbrt((0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505);
    const y = Math.cbrt(0.2126 * red + 0.7152 * green + 0.0722 * blue);
    const z = Math.cbrt((0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089);
    colours[at] = 116 * y - 16;
    colours[at + 1] = 500 * (x - y);
    colours[at + 2] = 200 * (y - z);
  }
  return colours;
}

/** Logits of being garment, one for each pixel. */
function settled(colours, indices, shades, width, height) {
  const count = shades.length / 3;
  const { place, edge, border } = places(width, height);
  const ofEdges = likelihood(shades, mixture(shades, amounts(indices, border, count), GROUND_COLOURS));
  const share = atFirst(place, indices, ofEdges, rarest(indices, ofEdges, edge));
  const ties = tiesOf(colours, width, height);
  let logits = place;
  for (let round = 0; round < ROUNDS; round++) {
    const { garment, ground } = claimed(share, edge, border);
    const ofGarment = likelihood(shades, mixture(shades, amounts(indices, garment, count), GARMENT_COLOURS));
    const ofGround = likelihood(shades, mixture(shades, amounts(indices, ground, count), GROUND_COLOURS));
    logits = smoothed(alone(place, edge, indices, ofGarment, ofGround), ties, width);
    for (let k = 0; k < share.length; k++) share[k] = sigmoid(logits[k]);
  }
  return logits;
}

/** How much there is of each colour, if its pixels count so much. */
function amounts(indices, weights, count) {
  const sums = new Float64Array(count);
  for (let k = 0; k < indices.length; k++) sums[indices[k]] += weights[k];
  return sums;
}

/** What a tenth of the pixels at the edge are less likely than, as ground. */
function rarest(indices, ofEdges, edge) {
  const found = [];
  for (let k = 0; k < indices.length; k++) if (edge[k]) found.push(ofEdges[indices[k]]);
  return percentile(Float64Array.from(found), 0.1);
}

/** Shares of being garment: by place, and by colours that are rare at the edge. */
function atFirst(place, indices, ofEdges, limit) {
  const share = new Float64Array(place.length);
  for (let k = 0; k < share.length; k++) share[k] = sigmoid(0.7 * (limit - ofEdges[indices[k]])) * sigmoid(2 * place[k]);
  return share;
}

/** How much each pixel counts as garment, and as ground. */
function claimed(share, edge, border) {
  const [garment, ground] = [new Float64Array(share.length), new Float64Array(share.length)];
  for (let k = 0; k < share.length; k++) {
    garment[k] = border[k] ? 0 : share[k];
    ground[k] = 1 - share[k] + (edge[k] && share[k] < SURE ? 2 : 0);
  }
  return { garment, ground };
}

/** Logits of being garment by colour and place, without the neighbours. */
function alone(place, edge, indices, ofGarment, ofGround) {
  const logits = new Float64Array(place.length);
  for (let k = 0; k < logits.length; k++) {
    const odds = ofGarment[indices[k]] - ofGround[indices[k]];
    logits[k] = Math.min(6, Math.max(-6, odds)) + place[k] - 2 * edge[k];
  }
  return logits;
}

/** Logits of being garment by place alone; the edge; and how much each of the edge's pixels counts as ground. */
function places(width, height) {
  const place = new Float64Array(width * height);
  const edge = new Uint8Array(width * height);
  const border = new Float64Array(width * height);
  for (let row = 0, k = 0; row < height; row++) {
    const y = ((row + 0.5) / height) * 2 - 1;
    for (let column = 0; column < width; column++, k++) {
      const x = ((column + 0.5) / width) * 2 - 1;
      place[k] = Math.min(2, Math.max(-3, MIDDLE * (1 - (x / 0.75) ** 2 - (y / 0.9) ** 2)));
      edge[k] = row < EDGE || row >= height - EDGE || column < EDGE || column >= width - EDGE ? 1 : 0;
      border[k] = edge[k] * (Math.abs(y) > 1 - EDGE / SIDE ? LESS : 1);
    }
  }
  return { place, edge, border };
}

/** Gaussians fitted by k-means to colours of which there are these amounts: logarithm of the weight, mean, precision. */
function mixture(shades, quantities, count) {
  const there = Array.from(quantities.keys()).filter((k) => quantities[k] > 0);
  if (!there.length) return [];
  const colours = Float64Array.from({ length: 3 * there.length }, (_, at) => shades[3 * there[Math.trunc(at / 3)] + (at % 3)]);
  const weights = Float64Array.from(there, (k) => quantities[k]);
  const total = sum(weights);
  const groups = clusters(colours, weights, count);
  const shares = new Float64Array(count);
  groups.forEach((group, k) => (shares[group] += weights[k]));
  const found = [...shares.keys()].filter((group) => shares[group] > 0.001 * total);
  const all = found.reduce((before, group) => before + shares[group], 0);
  return found.map((group) => gaussian(colours, weights.map((weight, k) => (groups[k] === group ? weight / shares[group] : 0)), shares[group] / all));
}

/** Of colours with these weights, which sum to 1; the Gaussian's own is its share. */
function gaussian(colours, weights, share) {
  const mean = average(colours, weights);
  const c = new Float64Array(9);
  for (let k = 0; k < weights.length; k++)
    for (let i = 0; i < 3; i++) for (let j = 0; j < 3; j++) c[3 * i + j] += weights[k] * colours[3 * k + i] * colours[3 * k + j];
  for (let i = 0; i < 3; i++) for (let j = 0; j < 3; j++) c[3 * i + j] += (i === j ? SPREAD : 0) - mean[i] * mean[j];
  const minors = Float64Array.of(
    c[4] * c[8] - c[5] * c[7], c[2] * c[7] - c[1] * c[8], c[1] * c[5] - c[2] * c[4],
    c[5] * c[6] - c[3] * c[8], c[0] * c[8] - c[2] * c[6], c[2] * c[3] - c[0] * c[5],
    c[3] * c[7] - c[4] * c[6], c[1] * c[6] - c[0] * c[7], c[0] * c[4] - c[1] * c[3],
  );
  const determinant = c[0] * minors[0] + c[1] * minors[3] + c[2] * minors[6];
  return { log: Math.log(share) - 0.5 * Math.log(determinant), mean, precision: minors.map((minor) => minor / determinant) };
}

/** Of colours with weights that sum to 1. */
function average(colours, weights) {
  const mean = new Float64Array(3);
  for (let k = 0; k < weights.length; k++) for (let c = 0; c < 3; c++) mean[c] += weights[k] * colours[3 * k + c];
  return mean;
}

/** k-means, from colours far from one another; an empty cluster keeps its centre. Which cluster each colour is in. */
function clusters(colours, weights, count) {
  const all = sum(weights);
  const mean = average(colours, weights.map((weight) => weight / all));
  const centres = new Float64Array(3 * count);
  const distances = weights.map((_, k) => squared(colours, 3 * k, mean, 0));
  let next = least(distances);
  distances.fill(Infinity);
  for (let centre = 0; centre < count; centre++) {
    for (let c = 0; c < 3; c++) centres[3 * centre + c] = colours[3 * next + c];
    for (let k = 0; k < weights.length; k++) distances[k] = Math.min(distances[k], squared(colours, 3 * k, centres, 3 * centre));
    next = least(distances.map((far, k) => -far * Math.min(weights[k], 1)));
  }
  const groups = new Uint8Array(weights.length);
  const [sums, amounts] = [new Float64Array(3 * count), new Float64Array(count)];
  for (let round = 0; round < CLUSTER_ROUNDS; round++) {
    sums.fill(0);
    amounts.fill(0);
    for (let k = 0; k < weights.length; k++) {
      let [nearest, closest] = [0, Infinity];
      for (let centre = 0; centre < count; centre++) {
        const far = squared(colours, 3 * k, centres, 3 * centre);
        if (far < closest) [nearest, closest] = [centre, far];
      }
      groups[k] = nearest;
      amounts[nearest] += weights[k];
      for (let c = 0; c < 3; c++) sums[3 * nearest + c] += weights[k] * colours[3 * k + c];
    }
    for (let k = 0; k < sums.length; k++) if (amounts[Math.trunc(k / 3)] > 0) centres[k] = sums[k] / amounts[Math.trunc(k / 3)];
  }
  return groups;
}

/** The square of the distance of two colours, each three numbers from a place on. */
const squared = (a, i, b, j) => (a[i] - b[j]) ** 2 + (a[i + 1] - b[j + 1]) ** 2 + (a[i + 2] - b[j + 2]) ** 2;

const sum = (numbers) => numbers.reduce((before, one) => before + one, 0);

/** The place of the least number, the first of several. */
function least(numbers) {
  let best = 0;
  for (let k = 1; k < numbers.length; k++) if (numbers[k] < numbers[best]) best = k;
  return best;
}

/** Logarithm of the density of each shade, up to a constant. */
function likelihood(shades, gaussians) {
  const density = new Float64Array(shades.length / 3).fill(-20);
  if (!gaussians.length) return density;
  const terms = new Float64Array(gaussians.length);
  for (let k = 0; k < density.length; k++) {
    for (let one = 0; one < terms.length; one++) terms[one] = term(gaussians[one], shades[3 * k], shades[3 * k + 1], shades[3 * k + 2]);
    density[k] = logOfSum(terms);
  }
  return density;
}

function term({ log, mean, precision: p }, red, green, blue) {
  const [a, b, c] = [red - mean[0], green - mean[1], blue - mean[2]];
  return log - 0.5 * (a * (p[0] * a + p[1] * b + p[2] * c) + b * (p[3] * a + p[4] * b + p[5] * c) + c * (p[6] * a + p[7] * b + p[8] * c));
}

/** Of numbers whose logarithms these are. */
function logOfSum(logs) {
  let [most, total] = [-Infinity, 0];
  for (let k = 0; k < logs.length; k++) most = Math.max(most, logs[k]);
  for (let k = 0; k < logs.length; k++) total += Math.exp(logs[k] - most);
  return most + Math.log(total);
}

/** The value that this share of the others lies below, between two of them in proportion, as numpy has it. */
function percentile(values, share) {
  const order = values.sort();
  const at = share * (order.length - 1);
  const low = Math.floor(at);
  return order[low] + (order[Math.min(low + 1, order.length - 1)] - order[low]) * (at - low);
}

/** How much each pixel has to do with the neighbour a step away: less across an edge; nothing outside. */
function tiesOf(colours, width, height) {
  const squares = STEPS.map(([down, right]) => apart(colours, width, height, down, right));
  const usual = squares.map(meanOfFinite).reduce((before, one) => before + one, 0) / squares.length;
  return squares.map((square, k) => tied(square, usual, STEPS[k][0] && STEPS[k][1] ? 0.7 : 1));
}

/** The squares of the distances of the colours of pixels a step apart; infinite where one is outside. */
function apart(colours, width, height, down, right) {
  const square = new Float64Array(width * height).fill(Infinity);
  for (let row = 0; row < height - down; row++)
    for (let column = Math.max(0, -right); column < width - Math.max(0, right); column++) {
      const here = row * width + column;
      square[here] = squared(colours, 3 * here, colours, 3 * (here + down * width + right));
    }
  return square;
}

function meanOfFinite(values) {
  let [total, count] = [0, 0];
  for (let k = 0; k < values.length; k++)
    if (values[k] < Infinity) {
      total += values[k];
      count += 1;
    }
  return total / count;
}

function tied(square, usual, most) {
  const ties = new Float64Array(square.length);
  for (let k = 0; k < ties.length; k++) ties[k] = Math.exp(-square[k] / (usual + 1e-6)) * most;
  return ties;
}

/** Logits after each pixel has listened to its neighbours: mean field of a Potts model. */
function smoothed(own, ties, width) {
  const [logits, leaning, heard] = [Float64Array.from(own), new Float64Array(own.length), new Float64Array(own.length)];
  for (let round = 0; round < MEAN_FIELD_ROUNDS; round++) {
    leant(leaning, logits);
    heard.fill(0);
    STEPS.forEach(([down, right], k) => listened(heard, leaning, ties[k], down * width + right));
    for (let k = 0; k < own.length; k++) logits[k] = own[k] + (SMOOTHNESS / 2) * heard[k];
  }
  return logits;
}

/** From logits to -1 (ground) … 1 (garment): the hyperbolic tangent of their halves. */
function leant(leaning, logits) {
  for (let k = 0; k < leaning.length; k++) leaning[k] = 1 - 2 / (1 + Math.exp(logits[k]));
}

/** What the pixels so many places apart tell one another; a tie to what is outside is none. */
function listened(heard, leaning, tie, step) {
  for (let here = 0, there = step; there < heard.length; here++, there++) {
    heard[here] += tie[here] * leaning[there];
    heard[there] += tie[here] * leaning[here];
  }
}

/** The main part, others that are not much smaller, and their holes. */
function kept(mask, width, height) {
  const middle = middles(width, height);
  const rest = Uint8Array.from(mask);
  const parts = [];
  while (parts.length < PARTS && rest.includes(1)) {
    const part = flooded([middlemost(middle, rest)], rest, width, height);
    parts.push({ part, weight: taken(part, rest, middle) });
  }
  const most = Math.max(0, ...parts.map(({ weight }) => weight));
  const open = new Uint8Array(mask.length).fill(1);
  for (const { part, weight } of parts) if (weight >= KEPT_SHARE * most) closed(open, part);
  const outside = flooded(rim(width, height), open, width, height);
  for (let k = 0; k < outside.length; k++) outside[k] = 1 - outside[k];
  return outside;
}

/** How near each pixel is to the middle. */
function middles(width, height) {
  const middle = new Float64Array(width * height);
  for (let k = 0; k < middle.length; k++) {
    const [x, y] = [spaced(k % width, width), spaced(Math.floor(k / width), height)];
    middle[k] = Math.exp(-((x / 0.75) ** 2) - (y / 0.9) ** 2);
  }
  return middle;
}

/** Which pixel of the mask is nearest to the middle: the first of several. */
function middlemost(middle, mask) {
  let best = 0;
  for (let k = 1; k < mask.length; k++) if (middle[k] * mask[k] > middle[best] * mask[best]) best = k;
  return best;
}

/** Takes a part out of the rest. What it weighs: pixels in the middle weigh more. */
function taken(part, rest, middle) {
  let weight = 0;
  for (let k = 0; k < part.length; k++)
    if (part[k]) {
      weight += middle[k];
      rest[k] = 0;
    }
  return weight;
}

function closed(open, part) {
  for (let k = 0; k < part.length; k++) if (part[k]) open[k] = 0;
}

/** The outermost pixels. */
function rim(width, height) {
  const found = [];
  for (let k = 0; k < width * height; k++)
    if (k < width || k >= width * (height - 1) || k % width === 0 || k % width === width - 1) found.push(k);
  return found;
}

const spaced = (k, count) => (k === count - 1 ? 1 : k * (2 / (count - 1)) - 1);

/** What of `allowed` is connected to the seeds, over edges of pixels. */
export function flooded(seeds, allowed, width, height) {
  const reached = new Uint8Array(allowed.length);
  const open = new Uint32Array(allowed.length);
  let count = 0;
  for (const seed of seeds) count = entered(seed, allowed, reached, open, count);
  while (count) {
    const k = open[--count];
    const column = k % width;
    if (column) count = entered(k - 1, allowed, reached, open, count);
    if (column < width - 1) count = entered(k + 1, allowed, reached, open, count);
    if (k >= width) count = entered(k - width, allowed, reached, open, count);
    if (k < width * (height - 1)) count = entered(k + width, allowed, reached, open, count);
  }
  return reached;
}

/** Puts a pixel onto the pile, if it may be entered and has not been. How high the pile is then. */
function entered(k, allowed, reached, pile, count) {
  if (!allowed[k] || reached[k]) return count;
  reached[k] = 1;
  pile[count] = k;
  return count + 1;
}

const sigmoid = (logit) => 1 / (1 + Math.exp(-logit));
