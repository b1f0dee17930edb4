// The camera: asked for only when a person wants it, and let go when nobody looks.

import { Refusal } from "./refusal.js";

const WISHES = { audio: false, video: { facingMode: { ideal: "environment" }, width: { ideal: 1280 }, height: { ideal: 960 } } };
const REASONS = {
  NotAllowedError: "camera-refused",
  SecurityError: "camera-refused",
  NotFoundError: "camera-none",
  OverconstrainedError: "camera-none",
  NotReadableError: "camera-busy",
  AbortError: "camera-busy",
};

export class Camera {
  #video;
  #stream;
  #stops = 0; // so that a start which was stopped while the browser asked comes to nothing

  /** @param {(refusal: Refusal) => void} lost called if the camera goes while it is on */
  constructor(video, lost) {
    this.#video = video;
    this.lost = lost;
  }

  get on() {
    return Boolean(this.#stream);
  }

  async start() {
    if (!globalThis.isSecureContext || !navigator.mediaDevices?.getUserMedia) throw new Refusal("camera-insecure");
    this.stop();
    const mine = this.#stops;
    const stream = await navigator.mediaDevices.getUserMedia(WISHES).catch((error) => {
      if (mine === this.#stops) throw new Refusal(REASONS[error.name] ?? "camera-broken", error.message);
    });
    if (mine !== this.#stops) return ended(stream);
    this.#stream = stream;
    const [track] = stream.getVideoTracks();
    track.addEventListener("ended", () => {
      if (this.#stream !== stream) return;
      this.stop();
      this.lost(new Refusal("camera-unplugged"));
    });
    this.#video.srcObject = stream;
    this.#video.classList.toggle("mirrored", track.getSettings().facingMode === "user");
    await this.#video.play().catch((error) => {
      if (this.#stream !== stream) return;
      this.stop();
      throw new Refusal("camera-broken", error.message);
    });
  }

  /** What it sees now: to be classified, and to be looked at. */
  async frame(still) {
    if (!this.#video.videoWidth) throw new Refusal("camera-broken");
    const bitmap = await createImageBitmap(this.#video);
    [still.width, still.height] = [bitmap.width, bitmap.height];
    still.getContext("2d").drawImage(bitmap, 0, 0);
    return bitmap;
  }

  stop() {
    ended(this.#stream);
    this.#stream = undefined;
    this.#stops += 1;
    this.#video.srcObject = null;
  }
}

const ended = (stream) => stream?.getTracks().forEach((track) => track.stop());
