// Pictures made smaller, to the very grey level that Python's Pillow gives: the model sees 28 pixels, so each counts.
//
// Pillow weights the pixels under a filter, first along the rows, then along the columns, in 22 binary places where the
// result is a byte (https://pillow.readthedocs.io/en/stable/handbook/concepts.html#filters). A browser's own scaling is
// specified nowhere and differs between browsers.

const PLACES = 22;
const BOX = { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) };
const BILINEAR = { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) };
export const FILTERS = { box: BOX, bilinear: BILINEAR };

/** Python's round: halves go to the even neighbour. */
export function rounded(value) {
  const below = Math.floor(value);
  const over = value - below;
  return over > 0.5 || (over === 0.5 && below % 2) ? below + 1 : below;
}

/** Which pixels each new pixel is made of, and with what weight. */
function weights(inSize, from, to, outSize, filter) {
  const scale = (Math.fround(to) - Math.fround(from)) / outSize;
  const stretch = Math.max(1, scale);
  const support = filter.support * stretch;
  const shrunk = 1 / stretch; // multiplied with, as Pillow does: the last bit decides what lies on a box's edge
  const room = Math.ceil(support) * 2 + 1;
  const starts = new Int32Array(outSize);
  const counts = new Int32Array(outSize);
  const shares = new Float64Array(outSize * room);
  for (let k = 0; k < outSize; k++) {
    const centre = from + (k + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const count = Math.min(inSize, Math.trunc(centre + support + 0.5)) - first;
    let total = 0;
    for (let x = 0; x < count; x++) {
      const share = filter.weight((x + first - centre + 0.5) * shrunk);
      shares[k * room + x] = share;
      total += share;
    }
    for (let x = 0; x < count && total; x++) shares[k * room + x] /= total;
    starts[k] = first;
    counts[k] = count;
  }
  return { starts, counts, shares, room };
}

/**
 * Both passes, in Pillow 13's order: along the columns first, where that leaves less to do for the other pass.
 *
 * Rows and columns are so many different loops for bytes and for floats because a browser compiles a loop for the one
 * kind of array that it has seen: shared, they take three times as long.
 */
function resized(source, width, height, channels, toWidth, toHeight, box, filter, along) {
  const sideways = toWidth !== width || box[0] || box[2] !== toWidth;
  const upright = toHeight !== height || box[1] || box[3] !== toHeight;
  const rows = (from, high) => (sideways ? along.rows(from, width, high, channels, weights(width, box[0], box[2], toWidth, filter), toWidth) : from);
  const columns = (from, wide) =>
    upright ? along.columns(from, wide * channels, weights(height, box[1], box[3], toHeight, filter), toHeight) : from;
  const made = height - toHeight > 2 * (width - toWidth) ? rows(columns(source, width), toHeight) : columns(rows(source, height), toWidth);
  return made === source ? source.slice() : made;
}

/** Weights in binary places, as whole numbers. */
const whole = (shares) => Int32Array.from(shares, (share) => 0.5 + share * 2 ** PLACES);

// The innermost loops, for themselves: V8 left one that lay inside others half compiled (docs/experiments.md).

function byteOf(source, from, step, by, first, count) {
  let sum = 1 << (PLACES - 1);
  for (let k = 0; k < count; k++) sum += source[from + k * step] * by[first + k];
  return sum >> PLACES;
}

function floatOf(source, from, shares, first, count) {
  let sum = 0;
  for (let k = 0; k < count; k++) sum += source[from + k] * shares[first + k];
  return sum;
}

function addBytes(sums, source, from, share) {
  for (let k = 0; k < sums.length; k++) sums[k] += source[from + k] * share;
}

function addFloats(sums, source, from, share) {
  for (let k = 0; k < sums.length; k++) sums[k] += source[from + k] * share;
}

const BYTES = {
  rows(source, width, height, channels, { starts, counts, shares, room }, toWidth) {
    const [target, by] = [new Uint8ClampedArray(toWidth * height * channels), whole(shares)];
    for (let row = 0, out = 0; row < height; row++)
      for (let k = 0; k < toWidth; k++)
        for (let c = 0; c < channels; c++, out++) {
          target[out] = byteOf(source, (row * width + starts[k]) * channels + c, channels, by, k * room, counts[k]);
        }
    return target;
  },
  columns(source, row, { starts, counts, shares, room }, toHeight) {
    const [target, by, sums] = [new Uint8ClampedArray(row * toHeight), whole(shares), new Int32Array(row)];
    for (let k = 0; k < toHeight; k++) {
      sums.fill(1 << (PLACES - 1));
      for (let y = 0; y < counts[k]; y++) {
        const share = by[k * room + y];
        addBytes(sums, source, (starts[k] + y) * row, share);
      }
      for (let x = 0; x < row; x++) target[k * row + x] = sums[x] >> PLACES;
    }
    return target;
  },
};

const FLOATS = {
  rows(source, width, height, _channels, { starts, counts, shares, room }, toWidth) {
    const target = new Float32Array(toWidth * height);
    for (let row = 0, out = 0; row < height; row++)
      for (let k = 0; k < toWidth; k++, out++) {
        target[out] = floatOf(source, row * width + starts[k], shares, k * room, counts[k]);
      }
    return target;
  },
  columns(source, row, { starts, counts, shares, room }, toHeight) {
    const [target, sums] = [new Float32Array(row * toHeight), new Float64Array(row)];
    for (let k = 0; k < toHeight; k++) {
      sums.fill(0);
      for (let y = 0; y < counts[k]; y++) {
        const share = shares[k * room + y];
        addFloats(sums, source, (starts[k] + y) * row, share);
      }
      for (let x = 0; x < row; x++) target[k * row + x] = sums[x];
    }
    return target;
  },
};

/**
 * Bytes, (height, width, channels), at another size.
 *
 * @param {number[]} box what of them is taken: left, top, right, bottom; all of them, if absent
 */
export function resizeBytes(pixels, width, height, channels, toWidth, toHeight, filter, box = [0, 0, width, height]) {
  return resized(pixels, width, height, channels, toWidth, toHeight, box, filter, BYTES);
}

/** Numbers, float32 (height, width), at another size. */
export function resizeFloats(values, width, height, toWidth, toHeight, filter, box = [0, 0, width, height]) {
  return resized(values, width, height, 1, toWidth, toHeight, box, filter, FLOATS);
}

/**
 * RGBA: blocks of `side` × `side` pixels as one each; those at the right and the lower edge may be smaller.
 *
 * What is transparent does not count: its colour is nothing that anybody sees. Two of a pixel's four bytes are summed at
 * once, a block's row in 16 bits each, which is enough for rows of 256 pixels.
 */
export function reduced({ pixels, width, height }, side) {
  if (side === 1) return { pixels, width, height };
  const words = wordsOf(premultiplied(pixels));
  const [toWidth, toHeight] = [Math.ceil(width / side), Math.ceil(height / side)];
  const small = new Uint8ClampedArray(toWidth * toHeight * 4);
  for (let y = 0, out = 0; y < toHeight; y++) {
    const [top, bottom] = [y * side, Math.min(height, (y + 1) * side)];
    for (let x = 0; x < toWidth; x++, out += 4) {
      const [left, right] = [x * side, Math.min(width, (x + 1) * side)];
      const count = (bottom - top) * (right - left);
      const half = count >> 1;
      let [red, green, blue, alpha] = [half, half, half, half];
      for (let row = top; row < bottom; row++) {
        let [redBlue, greenAlpha] = [0, 0];
        for (let at = row * width + left, end = row * width + right; at < end; at++) {
          redBlue = (redBlue + (words[at] & 0xff00ff)) | 0;
          greenAlpha = (greenAlpha + ((words[at] >>> 8) & 0xff00ff)) | 0;
        }
        red += redBlue & 0xffff;
        green += greenAlpha & 0xffff;
        blue += redBlue >>> 16;
        alpha += greenAlpha >>> 16;
      }
      const share = Math.trunc(Math.fround(2 ** 24 / count)); // as many binary places as Pillow keeps
      small[out] = Math.floor((red * share) / 2 ** 24);
      small[out + 1] = Math.floor((green * share) / 2 ** 24);
      small[out + 2] = Math.floor((blue * share) / 2 ** 24);
      small[out + 3] = Math.floor((alpha * share) / 2 ** 24);
    }
  }
  return { pixels: straight(small), width: toWidth, height: toHeight };
}

/** Four bytes a pixel as one number, red the lowest: browsers run on machines that put the lowest byte first. */
function wordsOf(pixels) {
  const bytes = pixels.byteOffset % 4 ? pixels.slice() : pixels;
  return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}

/** a · b / 255, rounded, in whole numbers. */
export function scaled(a, b) {
  const product = a * b + 128;
  return ((product >> 8) + product) >> 8;
}

function premultiplied(pixels) {
  let result = pixels; // a copy only where something is transparent
  for (let at = 3; at < pixels.length; at += 4) {
    const alpha = pixels[at];
    if (alpha === 255) continue;
    if (result === pixels) result = pixels.slice();
    for (let c = at - 3; c < at; c++) result[c] = scaled(result[c], alpha);
  }
  return result;
}

function straight(pixels) {
  for (let at = 0; at < pixels.length; at += 4) {
    const alpha = pixels[at + 3];
    if (alpha === 255 || alpha === 0) continue;
    for (let c = at; c < at + 3; c++) pixels[c] = Math.min(255, Math.trunc((255 * pixels[c]) / alpha));
  }
  return pixels;
}
