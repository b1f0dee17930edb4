// The service, if there is one at this address, and if it takes corrections. It is asked again and again, so that it may
// be stopped and started: the page needs it for nothing else.

import { Refusal } from "./refusal.js";

const CORRECTIONS = new URL("v1/corrections", import.meta.url);
const READY = new URL("v2/health/ready", import.meta.url);
const PATIENCE_MS = 5000;
const MEANS = { 429: "correction-enough", 507: "correction-full" };

export class Service {
  #taking = false;

  /** @param {(taking: boolean) => void} changed */
  constructor(changed) {
    this.changed = changed;
  }

  /** Asks now, and from then on every few seconds. */
  async watch(everyMs) {
    await this.look();
    setTimeout(() => this.watch(everyMs), everyMs);
  }

  async look() {
    const taking = await this.#asked();
    if (taking !== this.#taking) this.changed((this.#taking = taking));
  }

  async #asked() {
    try {
      const ready = await fetch(READY, { signal: AbortSignal.timeout(PATIENCE_MS), cache: "no-store" });
      return ready.ok && (await ready.json()).corrections === true;
    } catch {
      return false;
    }
  }

  /** @param {Blob} picture @param {string} kind */
  async correct(picture, kind) {
    const form = new FormData();
    form.append("picture", picture, "picture"); // its own name is nobody's business
    form.append("kind", kind);
    const answer = await fetch(CORRECTIONS, { method: "POST", body: form, signal: AbortSignal.timeout(3 * PATIENCE_MS) }).catch(() => undefined);
    if (MEANS[answer?.status]) throw new Refusal(MEANS[answer.status]);
    if (!answer || answer.status >= 500) {
      this.look(); // what cannot be had is not offered
      throw new Refusal("correction-lost");
    }
    if (!answer.ok) throw new Refusal("correction-refused");
  }
}
