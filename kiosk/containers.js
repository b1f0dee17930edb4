// What a picture file is, and how large, from its first bytes: a file of a few bytes may unfold to gigabytes, so its
// size is looked at before the browser decodes a pixel.

import { Refusal } from "./refusal.js";

export const LARGEST_BYTES = 32 * 2 ** 20;
export const LARGEST_PIXELS = 32 * 10 ** 6; // these limits are seamline/decoding.py's
const LARGEST_JPEG_PIXELS = 80 * 10 ** 6; // in one scan; telephones make such
const [MOST_PARTS, MOST_SCANS] = [10_000, 64]; // seamline/containers.py's, and so is how they are counted
const [START, END, SCAN, ALONE] = [0xd8, 0xd9, 0xda, 0x01]; // markers of a JPEG
const [GIF_HEADER_BYTES, GIF_EXTENSION] = [13, 0x21];
const READERS = { jpeg, png, gif, webp };
const WALKS = { jpeg: jpegParts, png: pngParts, gif: gifParts };

/** Refuses an empty file, what is no JPEG, PNG, WebP or GIF, or too large a one. */
export function inspect(content) {
  if (!content.length) throw new Refusal("picture-empty");
  if (content.length > LARGEST_BYTES) throw new Refusal("picture-large", `${Math.ceil(content.length / 2 ** 20)} MB`);
  const kind = kindOf(content);
  const read = READERS[kind];
  if (!read) throw new Refusal("picture-other");
  const size = read(new DataView(content.buffer, content.byteOffset, content.length));
  if (!size || !size[0] || !size[1]) throw new Refusal("picture-broken");
  const pixels = size[0] * size[1];
  const passes = scans(content, kind);
  if (pixels > LARGEST_JPEG_PIXELS || (pixels > LARGEST_PIXELS && passes !== 1)) throw new Refusal("picture-large", `${size[0]} × ${size[1]}`);
  return { width: size[0], height: size[1] };
}

function kindOf(content) {
  const starts = (text, at = 0) => [...text].every((character, k) => content[at + k] === character.charCodeAt(0));
  if (starts("\xff\xd8\xff")) return "jpeg";
  if (starts("\x89PNG\r\n\x1a\n")) return "png";
  if (starts("GIF8")) return "gif";
  return starts("RIFF") && starts("WEBP", 8) ? "webp" : undefined;
}

function png(view) {
  return view.byteLength >= 24 ? [view.getUint32(16), view.getUint32(20)] : undefined;
}

function gif(view) {
  return view.byteLength >= 10 ? [view.getUint16(6, true), view.getUint16(8, true)] : undefined;
}

function webp(view) {
  if (view.byteLength < 30) return undefined;
  const layout = String.fromCharCode(...[12, 13, 14, 15].map((at) => view.getUint8(at)));
  const three = (at) => view.getUint16(at, true) + (view.getUint8(at + 2) << 16);
  if (layout === "VP8X") return [three(24) + 1, three(27) + 1];
  if (layout === "VP8 ") return [view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff];
  if (layout !== "VP8L") return undefined;
  const bits = view.getUint32(21, true);
  return [(bits & 0x3fff) + 1, ((bits >>> 14) & 0x3fff) + 1];
}

/** The first frame header: every marker from C0 to CF, except tables. */
function jpeg(view) {
  for (let at = 2; at + 9 < view.byteLength; ) {
    if (view.getUint8(at) !== 0xff) return undefined;
    const kind = view.getUint8(at + 1);
    if (kind === 0xff) at += 1;
    else if (kind >= 0xc0 && kind <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(kind)) return [view.getUint16(at + 7), view.getUint16(at + 5)];
    else at += 2 + (kind === 1 || (kind >= 0xd0 && kind <= 0xd8) ? 0 : view.getUint16(at + 2));
  }
  return undefined;
}

/** How often a JPEG goes over its picture; 0 of others. Refuses what has too many scans, or parts. */
function scans(content, kind) {
  let [parts, found] = [0, 0];
  for (const part of WALKS[kind]?.(content) ?? []) {
    parts += 1;
    if (kind === "jpeg" && part === SCAN) found += 1;
    if (parts > MOST_PARTS || found > MOST_SCANS) throw new Refusal("picture-broken");
  }
  return found;
}

function* jpegParts(content) {
  let scanned = false;
  for (let at = content.indexOf(0xff); at >= 0; at = content.indexOf(0xff, at)) {
    at += 1;
    const kind = content[at];
    if (!kind || kind === 0xff || (kind >= 0xd0 && kind <= 0xd7)) continue;
    yield kind;
    if (kind === END && scanned) return;
    scanned ||= kind === SCAN;
    at += 1;
    if (![START, END, ALONE].includes(kind)) at += (content[at] << 8) | content[at + 1];
  }
}

function* pngParts(content) {
  const bytes = (at) => content[at] ?? 0;
  for (let at = 8; at < content.length; at += 12 + (bytes(at) * 2 ** 24 + (bytes(at + 1) << 16) + (bytes(at + 2) << 8) + bytes(at + 3))) yield content[at];
}

function* gifParts(content) {
  const packed = content[GIF_HEADER_BYTES - 3] ?? 0;
  let at = GIF_HEADER_BYTES + (packed & 0x80 ? 3 * 2 ** ((packed & 7) + 1) : 0);
  for (; content[at] === GIF_EXTENSION; at++) {
    for (at += 2; content[at]; at += 1 + content[at]) yield content[at];
    yield 0;
  }
}
