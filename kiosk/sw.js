// Keeps the page for when there is no network. files.json names every file with its digest: a newer page is fetched as a
// whole, compared, and only then takes the place of the one before. Who began with one page gets no file of another: which
// one that was is noted beside its files, since this worker may be ended at any time. The bundle is none of its business
// (bundle.js).

const KEPT = "seamline-page-";
const STOCK = "seamline-stock"; // the index and its pictures: the newest that was seen
const LIST = new URL("files.json", self.registration.scope);
const APART = ["bundle/", "v1/", "v2/", "files.json"].map((path) => new URL(path, self.registration.scope).pathname);
const CHANGING = ["stock/", "index.safetensors"].map((path) => new URL(path, self.registration.scope).pathname);

self.addEventListener("install", (event) => event.waitUntil(renew().then(() => self.skipWaiting())));
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim().then(claimed)));
self.addEventListener("message", (event) => event.data === "look" && event.waitUntil(renew().then(tell).then(tidy).catch(() => undefined)));
self.addEventListener("fetch", (event) => {
  const { pathname, origin } = new URL(event.request.url);
  if (event.request.method !== "GET" || origin !== self.location.origin || APART.some((path) => pathname.startsWith(path))) return;
  event.respondWith(CHANGING.some((path) => pathname.startsWith(path)) ? newest(event.request) : page(event));
});

/** Fetches the page that the server has, unless it is here already. */
async function renew() {
  const response = await fetch(LIST, { cache: "no-cache" });
  if (!response.ok) throw new Error(`files.json: ${response.status}`);
  const { version, files } = await response.json();
  if ((await current()) === KEPT + version) return;
  const cache = await caches.open(KEPT + version);
  if (!(await cache.match(LIST))) await Promise.all(Object.entries(files).map(([path, digest]) => fetched(cache, path, digest)));
  await cache.put(LIST, new Response(String(Date.now()))); // the mark that it is whole, and since when it is the newest
}

async function fetched(cache, path, digest) {
  const address = new URL(path, self.registration.scope);
  const response = await fetch(address, { cache: "no-cache" });
  const content = await response.arrayBuffer();
  const found = Array.from(new Uint8Array(await crypto.subtle.digest("SHA-256", content)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (!response.ok || found !== digest) throw new Error(`${path} is not what files.json describes`);
  await cache.put(address, new Response(content, { headers: response.headers }));
}

const pages = async () => (await caches.keys()).filter((name) => name.startsWith(KEPT));
const noteOf = (client) => new URL(`client/${client}`, self.registration.scope);

/** The name of the newest page that is here, whole; undefined if there is none. */
async function current() {
  let [newest, latest] = [undefined, -1];
  for (const name of await pages()) {
    const since = Number((await (await (await caches.open(name)).match(LIST))?.text()) ?? -1);
    if (since > latest) [newest, latest] = [name, since];
  }
  return newest;
}

/** The name of the page that a client began with; undefined if that is not known. */
async function begun(client) {
  for (const name of client ? await pages() : []) if (await (await caches.open(name)).match(noteOf(client))) return name;
  return undefined;
}

async function note(client, name) {
  await (await caches.open(name)).put(noteOf(client), new Response()).catch(() => undefined); // a full disk
}

/** Who was here before this worker: with the files that it has just fetched. */
async function claimed() {
  const name = await current();
  for (const { id } of await everyone()) if (name && !(await begun(id))) await note(id, name);
}

const everyone = () => self.clients.matchAll({ type: "all", includeUncontrolled: true });

/** Pages that are neither the newest nor open go. */
async function tidy() {
  const kept = new Set([await current()]);
  for (const { id } of await everyone()) kept.add(await begun(id));
  for (const name of await pages()) if (!kept.has(name)) await caches.delete(name);
}

async function page({ request, clientId, resultingClientId }) {
  const name = (request.mode !== "navigate" && (await begun(clientId))) || (await current());
  if (name && resultingClientId) await note(resultingClientId, name);
  const plain = new URL(request.url);
  plain.search = "";
  if (plain.href === self.registration.scope) plain.pathname += "index.html";
  const found = name && (await (await caches.open(name)).match(plain.href));
  return found || fetch(request);
}

/** From the network, and remembered; from memory without one. */
async function newest(request) {
  try {
    const response = await fetch(request);
    const kept = response.clone();
    if (response.ok) await caches.open(STOCK).then((cache) => cache.put(request, kept)).catch(() => undefined); // a full disk
    return response;
  } catch (error) {
    const found = await caches.match(request);
    if (found) return found;
    throw error;
  }
}

/** Those who look at an older page. */
async function tell() {
  const name = await current();
  for (const client of await self.clients.matchAll()) if (![undefined, name].includes(await begun(client.id))) client.postMessage("new page");
}
