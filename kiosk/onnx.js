// What an ONNX file says of itself. onnxruntime-web has no way to ask, and the answers belong to the very model that is
// run: so the few fields of its outermost message are walked through (https://protobuf.dev/programming-guides/encoding).

import { Refusal } from "./refusal.js";

const METADATA = 14; // field of ModelProto: pairs of key (1) and value (2)
const BYTES = 2; // wire type of everything that has a length
const MOST_ODDS = 1000;
const SIZES = { 1: 8, 5: 4 }; // bytes of the wire types that have none

/** @param {Uint8Array} model @returns {Map<string, string>} metadata by name */
export function metadata(model) {
  const told = new Map();
  for (const { field, content } of fields(model)) {
    if (field !== METADATA) continue;
    const pair = Object.fromEntries([...fields(content)].map((part) => [part.field, new TextDecoder().decode(part.content)]));
    told.set(pair[1] ?? "", pair[2] ?? "");
  }
  return told;
}

/**
 * The classes; the probability of the likeliest below which a picture shows something else; and how much more often than
 * the model says a photograph shows each class (seamline/classifier.py).
 */
export function contract(model) {
  const told = metadata(model);
  const classes = parsed(told.get("classes"));
  const below = Number(told.get("unknown_below") ?? "0");
  const odds = parsed(told.get("photograph_odds") ?? "{}") ?? { "": 0 };
  const named = Array.isArray(classes) && classes.length > 0 && classes.every((name) => typeof name === "string");
  const usable = named && Object.entries(odds).every(([name, value]) => classes.includes(name) && typeof value === "number" && value > 0 && value <= MOST_ODDS);
  if (!usable || !(below >= 0 && below < 1)) throw new Refusal("model-broken", "model.onnx was not exported by Seamline.");
  return { classes, below, odds: classes.map((name) => odds[name] ?? 1) };
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The fields of a message that have a length; the others are passed over. */
function* fields(message) {
  for (let at = 0; at < message.length; ) {
    const [key, afterKey] = varint(message, at);
    const [field, type] = [Math.floor(key / 8), key % 8];
    if (type === BYTES) {
      const [length, start] = varint(message, afterKey);
      if (start + length > message.length) throw broken();
      yield { field, content: message.subarray(start, start + length) };
      at = start + length;
    } else if (type === 0) at = varint(message, afterKey)[1];
    else if (SIZES[type]) at = afterKey + SIZES[type];
    else throw broken();
  }
}

function varint(message, at) {
  let value = 0;
  for (let places = 1; places < 2 ** 64; places *= 128, at++) {
    if (at >= message.length) throw broken();
    value += (message[at] & 127) * places;
    if (message[at] < 128) return [value, at + 1];
  }
  throw broken();
}

const broken = () => new Refusal("model-broken", "model.onnx is no ONNX file.");
