// The service worker's other end: it keeps the page for when there is no network, and says when a newer page is there.

const MOMENT_MS = 2000;
let waiting = false;

/** @param {() => boolean} free whether nobody would be disturbed by a page that loads itself anew */
export function follow(free) {
  const workers = navigator.serviceWorker; // absent by plain http from another machine
  if (!workers) return;
  workers.addEventListener("message", ({ data }) => {
    if (data === "new page" && !waiting) anew(free);
    waiting ||= data === "new page";
  });
}

/** From now on the page is kept. Called when it works: a first visitor's model is not to wait for it. */
export function keep() {
  navigator.serviceWorker?.register(new URL("sw.js", import.meta.url)).then(look, () => undefined); // without it the page works, but not offline
}

/** Looks for a newer page. */
export async function look() {
  const registration = await navigator.serviceWorker?.ready;
  registration?.active?.postMessage("look");
}

function anew(free) {
  if (free()) location.reload();
  else setTimeout(() => anew(free), MOMENT_MS);
}
