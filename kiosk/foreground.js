// Where in a photograph the garment is: seamline/foreground.py in JavaScript, function by function.
//
// Both count in float64, in an order of their own: what differs is the last bits, and a pixel that is garment by so
// little has yet to be seen (tests/test_kiosk_contract.py).

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
  return { mask: kept(logits.map((logit) => (logit > 0 ? 1 : 0)), width, height), width, height };
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
  const amounts = (weight) => {
    const sums = new Float64Array(count);
    for (let k = 0; k < indices.length; k++) sums[indices[k]] += weight(k);
    return sums;
  };
  const ofEdges = likelihood(shades, mixture(shades, amounts((k) => border[k]), GROUND_COLOURS));
  const rarest = percentile(Array.from(indices, (shade) => ofEdges[shade]).filter((_, k) => edge[k]), 0.1);
  let share = place.map((own, k) => sigmoid(0.7 * (rarest - ofEdges[indices[k]])) * sigmoid(2 * own));
  const ties = tiesOf(colours, width, height);
  let logits = place;
  for (let round = 0; round < ROUNDS; round++) {
    const ofGarment = mixture(shades, amounts((k) => (border[k] ? 0 : share[k])), GARMENT_COLOURS);
    const ofGround = mixture(shades, amounts((k) => 1 - share[k] + (edge[k] && share[k] < SURE ? 2 : 0)), GROUND_COLOURS);
    const ground = likelihood(shades, ofGround);
    const odds = likelihood(shades, ofGarment).map((found, k) => Math.min(6, Math.max(-6, found - ground[k])));
    const own = place.map((there, k) => odds[indices[k]] + there - 2 * edge[k]);
    logits = smoothed(own, ties, width);
    share = logits.map(sigmoid);
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
function mixture(shades, amounts, count) {
  const there = [];
  amounts.forEach((amount, k) => amount > 0 && there.push({ colour: [...shades.subarray(3 * k, 3 * k + 3)], amount }));
  if (!there.length) return [];
  const total = there.reduce((sum, { amount }) => sum + amount, 0);
  const found = clusters(there, total, count).filter(({ amount }) => amount > 0.001 * total);
  const sums = found.reduce((sum, { amount }) => sum + amount, 0);
  return found.map(({ members, amount }) => gaussian(members, amount, sums));
}

function gaussian(members, amount, sums) {
  const mean = average(members, amount);
  const c = new Float64Array(9);
  for (const { colour, amount: own } of members)
    for (let i = 0; i < 3; i++) for (let j = 0; j < 3; j++) c[3 * i + j] += (own / amount) * colour[i] * colour[j];
  for (let i = 0; i < 3; i++) for (let j = 0; j < 3; j++) c[3 * i + j] += (i === j ? SPREAD : 0) - mean[i] * mean[j];
  const minors = [
    c[4] * c[8] - c[5] * c[7], c[2] * c[7] - c[1] * c[8], c[1] * c[5] - c[2] * c[4],
    c[5] * c[6] - c[3] * c[8], c[0] * c[8] - c[2] * c[6], c[2] * c[3] - c[0] * c[5],
    c[3] * c[7] - c[4] * c[6], c[1] * c[6] - c[0] * c[7], c[0] * c[4] - c[1] * c[3],
  ];
  const determinant = c[0] * minors[0] + c[1] * minors[3] + c[2] * minors[6];
  return { log: Math.log(amount / sums) - 0.5 * Math.log(determinant), mean, precision: minors.map((minor) => minor / determinant) };
}

function average(members, amount) {
  return [0, 1, 2].map((c) => members.reduce((sum, { colour, amount: own }) => sum + own * colour[c], 0) / amount);
}

/** k-means, from colours far from one another; an empty cluster keeps its centre. */
function clusters(there, total, count) {
  const apart = (a, b) => squared(a, 0, b, 0);
  const mean = average(there, total);
  const first = there[least(there.map(({ colour }) => apart(colour, mean)))].colour;
  const centres = [first];
  let distance = there.map(({ colour }) => apart(colour, first));
  while (centres.length < count) {
    const next = there[least(distance.map((far, k) => -far * Math.min(there[k].amount, 1)))].colour;
    centres.push(next);
    distance = distance.map((far, k) => Math.min(far, apart(there[k].colour, next)));
  }
  let groups = [];
  for (let round = 0; round < CLUSTER_ROUNDS; round++) {
    groups = centres.map(() => ({ members: [], amount: 0 }));
    for (const one of there) {
      const group = groups[least(centres.map((centre) => apart(one.colour, centre)))];
      group.members.push(one);
      group.amount += one.amount;
    }
    groups.forEach(({ members, amount }, k) => amount > 0 && (centres[k] = average(members, amount)));
  }
  return groups;
}

/** The square of the distance of two colours, each three numbers from a place on. */
const squared = (a, i, b, j) => (a[i] - b[j]) ** 2 + (a[i + 1] - b[j + 1]) ** 2 + (a[i + 2] - b[j + 2]) ** 2;

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
  return density.map((_, k) => {
    const terms = gaussians.map(({ log, mean, precision: p }) => {
      const [a, b, c] = [0, 1, 2].map((i) => shades[3 * k + i] - mean[i]);
      const square = a * (p[0] * a + p[1] * b + p[2] * c) + b * (p[3] * a + p[4] * b + p[5] * c) + c * (p[6] * a + p[7] * b + p[8] * c);
      return log - 0.5 * square;
    });
    const most = Math.max(...terms);
    return most + Math.log(terms.reduce((sum, term) => sum + Math.exp(term - most), 0));
  });
}

/** The value that this share of the others lies below, between two of them in proportion, as numpy has it. */
function percentile(values, share) {
  const order = values.sort((a, b) => a - b);
  const at = share * (order.length - 1);
  const low = Math.floor(at);
  return order[low] + (order[Math.min(low + 1, order.length - 1)] - order[low]) * (at - low);
}

/** How much each pixel has to do with the neighbour a step away: less across an edge; nothing outside. */
function tiesOf(colours, width, height) {
  const squares = STEPS.map(([down, right]) => {
    const square = new Float64Array(width * height).fill(Infinity);
    for (let row = 0; row < height - down; row++)
      for (let column = Math.max(0, -right); column < width - Math.max(0, right); column++) {
        const here = row * width + column;
        const there = here + down * width + right;
        square[here] = squared(colours, 3 * here, colours, 3 * there);
      }
    return square;
  });
  const means = squares.map((square) => {
    const finite = square.filter(Number.isFinite);
    return finite.reduce((sum, value) => sum + value, 0) / finite.length;
  });
  const usual = means.reduce((sum, mean) => sum + mean, 0) / means.length;
  return squares.map((square, k) => square.map((value) => Math.exp(-value / (usual + 1e-6)) * (STEPS[k][0] && STEPS[k][1] ? 0.7 : 1)));
}

/** Logits after each pixel has listened to its neighbours: mean field of a Potts model. */
function smoothed(own, ties, width) {
  const [logits, leaning, heard] = [Float64Array.from(own), new Float64Array(own.length), new Float64Array(own.length)];
  for (let round = 0; round < MEAN_FIELD_ROUNDS; round++) {
    for (let k = 0; k < own.length; k++) leaning[k] = Math.tanh(logits[k] / 2);
    heard.fill(0);
    STEPS.forEach(([down, right], k) => listened(heard, leaning, ties[k], down * width + right));
    for (let k = 0; k < own.length; k++) logits[k] = own[k] + (SMOOTHNESS / 2) * heard[k];
  }
  return logits;
}

/** What the pixels so many places apart tell one another; a tie to what is outside is none. */
function listened(heard, leaning, tie, apart) {
  for (let here = 0, there = apart; there < heard.length; here++, there++) {
    heard[here] += tie[here] * leaning[there];
    heard[there] += tie[here] * leaning[here];
  }
}

/** The main part, others that are not much smaller, and their holes. */
function kept(mask, width, height) {
  const middle = new Float64Array(mask.length);
  for (let k = 0; k < mask.length; k++) {
    const [x, y] = [spaced(k % width, width), spaced(Math.floor(k / width), height)];
    middle[k] = Math.exp(-((x / 0.75) ** 2) - (y / 0.9) ** 2);
  }
  const rest = Uint8Array.from(mask);
  const parts = [];
  while (parts.length < PARTS && rest.includes(1)) {
    const seed = least(middle.map((weight, k) => -weight * rest[k]));
    const part = flooded([seed], rest, width, height);
    let weight = 0;
    part.forEach((inside, k) => inside && ((weight += middle[k]), (rest[k] = 0)));
    parts.push({ part, weight });
  }
  const most = Math.max(0, ...parts.map(({ weight }) => weight));
  const main = parts.filter(({ weight }) => weight >= KEPT_SHARE * most);
  const open = mask.map((_, k) => (main.some(({ part }) => part[k]) ? 0 : 1));
  const rim = [...mask.keys()].filter((k) => k < width || k >= mask.length - width || k % width === 0 || k % width === width - 1);
  return Uint8Array.from(flooded(rim, open, width, height), (outside) => 1 - outside);
}

const spaced = (k, count) => (k === count - 1 ? 1 : k * (2 / (count - 1)) - 1);

/** What of `allowed` is connected to the seeds, over edges of pixels. */
export function flooded(seeds, allowed, width, height) {
  const reached = new Uint8Array(allowed.length);
  const open = seeds.filter((k) => allowed[k]);
  open.forEach((k) => (reached[k] = 1));
  while (open.length) {
    const k = open.pop();
    const column = k % width;
    for (const next of [column ? k - 1 : -1, column < width - 1 ? k + 1 : -1, k - width, k < width * (height - 1) ? k + width : -1])
      if (next >= 0 && allowed[next] && !reached[next]) {
        reached[next] = 1;
        open.push(next);
      }
  }
  return reached;
}

const sigmoid = (logit) => 1 / (1 + Math.exp(-logit));
