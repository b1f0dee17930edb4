// The worker's other end: a question is a promise. A worker that crashes, or that does not answer, is ended, and a new
// one takes its place; who asked is told so.

import { Refusal } from "./refusal.js";

const PATIENCE_MS = 60_000; // for a model that is fetched, compiled and proved on a slow machine

export class Thinker {
  #worker;
  #waiting = new Map();
  #count = 0;

  /** @param {() => void} ended called after a worker was ended; the next question starts another */
  constructor(ended = () => undefined) {
    this.ended = ended;
  }

  load() {
    return this.#ask("load");
  }

  /** @param {Blob | ImageData} source pixels are handed over */
  answer(source) {
    return this.#ask("answer", source, source instanceof ImageData ? [source.data.buffer] : []);
  }

  run(images) {
    return this.#ask("run", images);
  }

  #started() {
    const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    worker.onmessage = ({ data: { id, result, state, detail } }) => {
      const asked = this.#waiting.get(id);
      this.#waiting.delete(id);
      clearTimeout(asked?.timer);
      if (state) asked?.reject(new Refusal(state, detail));
      else asked?.resolve(result);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      if (worker === this.#worker) this.#end("worker-broken", event.message ?? "");
    };
    return worker;
  }

  #ask(task, argument, handedOver = []) {
    const id = ++this.#count;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#end("worker-slow"), PATIENCE_MS);
      this.#waiting.set(id, { resolve, reject, timer });
      this.#worker ??= this.#started(); // when it is needed: one that cannot load would be started without end
      this.#worker.postMessage({ id, task, argument }, handedOver);
    });
  }

  #end(state, detail) {
    this.#worker.terminate();
    this.#worker = undefined;
    const asked = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject, timer } of asked) {
      clearTimeout(timer);
      reject(new Refusal(state, detail));
    }
    this.ended();
  }
}
