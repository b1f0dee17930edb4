// The bundle: fetched, compared with its manifest, and kept, so that the page answers without a network.
//
// Files are asked for by their digest (model.onnx?sha256=…), so that no cache on the way answers with another bundle's,
// and a bundle is kept whole under a name of its own: the one before stays until the new one has proved itself.

import { Refusal } from "./refusal.js";

const FORMAT = 1;
const NEEDED = ["model.onnx", "golden.json"];
const KEPT = "seamline-bundle-";
const PATIENCE_MS = 8000;
const LARGEST_BYTES = 64 * 2 ** 20;

/** A bundle in memory: the manifest, and its files by name. */

/** What the server has now, as this manifest of its describes it. A Refusal, "offline", if it does not answer. */
export async function fetched(base, manifest) {
  const contents = await Promise.all(NEEDED.map((name) => fileAt(base, name, manifest.files[name])));
  return { manifest, files: Object.fromEntries(NEEDED.map((name, k) => [name, contents[k]])) };
}

export async function manifestAt(base) {
  const text = await answered(new URL("manifest.json", base), { cache: "no-cache" }, (response) => response.text());
  return sound(parsed(text));
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** A manifest that this page understands. */
export function sound(manifest) {
  if (!manifest || manifest.format !== FORMAT)
    throw new Refusal("bundle-format", `manifest.json: expected format ${FORMAT}. Received ${String(manifest?.format).slice(0, 20)}.`);
  const described = NEEDED.every((name) => {
    const facts = Object.hasOwn(manifest.files ?? {}, name) ? manifest.files[name] : undefined;
    return Number.isInteger(facts?.bytes) && facts.bytes <= LARGEST_BYTES && /^[0-9a-f]{64}$/.test(facts.sha256);
  });
  if (!described || !Number.isInteger(manifest.version)) throw new Refusal("bundle-broken", "manifest.json is not as its format says.");
  return manifest;
}

export const digestOf = (manifest) => manifest.files["model.onnx"].sha256;

/** Manifests are the same bundle if all their digests are. */
export const nameOf = (manifest) => `${KEPT}${manifest.version}-${NEEDED.map((name) => manifest.files[name].sha256.slice(0, 16)).join("-")}`;

async function fileAt(base, name, facts) {
  const content = await answered(new URL(`${name}?sha256=${facts.sha256}`, base), {}, (response) => response.arrayBuffer());
  return verified(name, new Uint8Array(content), facts);
}

async function verified(name, content, facts) {
  if (content.length !== facts.bytes || ((await sha256(content)) ?? facts.sha256) !== facts.sha256)
    throw new Refusal("bundle-broken", `${name} is not what manifest.json describes.`);
  return content;
}

/** In hexadecimal; undefined where a page may not count it, because it came by plain http from another machine. */
export async function sha256(content) {
  if (!globalThis.crypto?.subtle) return undefined;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {(response: Response) => Promise} read of the body, which may break off as well */
async function answered(address, options, read) {
  const offline = () => {
    throw new Refusal("offline"); // a browser's own words help nobody at a screen
  };
  const response = await fetch(address, { ...options, signal: AbortSignal.timeout(PATIENCE_MS) }).catch(offline);
  if (!response.ok) throw new Refusal(response.status === 404 ? "bundle-absent" : "offline", `${address.pathname}: ${response.status}`);
  return read(response).catch(offline);
}

/** The bundle that was kept, whole and verified; undefined if there is none. */
export async function kept() {
  for (const name of await namesKept()) {
    const cache = await caches.open(name);
    const manifest = await (await cache.match("manifest.json"))?.json();
    const files = {};
    for (const file of NEEDED) files[file] = new Uint8Array((await (await cache.match(file))?.arrayBuffer()) ?? 0);
    try {
      for (const file of NEEDED) await verified(file, files[file], sound(manifest).files[file]);
      return { manifest, files };
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      await caches.delete(name); // the browser was ended while it was written
    }
  }
  return undefined;
}

/** Keeps a bundle that has proved itself; then others go. */
export async function keep({ manifest, files }) {
  if (!globalThis.caches) return;
  const name = nameOf(manifest);
  if (!(await caches.has(name))) {
    const cache = await caches.open(name);
    for (const file of NEEDED) await cache.put(file, new Response(files[file]));
    await cache.put("manifest.json", new Response(JSON.stringify(manifest)));
  }
  for (const other of await namesKept()) if (other !== name) await caches.delete(other);
}

async function namesKept() {
  const names = (await globalThis.caches?.keys()) ?? [];
  return names.filter((name) => name.startsWith(KEPT)).reverse(); // the newest first
}
