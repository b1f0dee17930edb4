// The camera: asked for only when a person wants it, and let go when nobody looks.

import { Refusal } from "./refusal.js";

const WISHES = { audio: false, video: { facingMode: { ideal: "environment" }, width: { ideal: 960 }, height: { ideal: 720 } } };
const LONGEST = 512; // of what is classified: twice what is made of it (pictures.js)
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
  still = false; // its picture is looked at
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
      if (mine === this.#stops) throw REASONS[error.name] ? new Refusal(REASONS[error.name]) : new Refusal("camera-broken", error.message);
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

  /** What it sees now, to be classified: as many pixels as count, ImageData. It stands still until it goes on. */
  frame() {
    const { videoWidth: width, videoHeight: height } = this.#video;
    if (!width || this.#video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) throw new Refusal("camera-broken");
    this.still = true;
    this.#video.pause();
    const share = Math.min(1, LONGEST / Math.max(width, height));
    const small = new OffscreenCanvas(...[width, height].map((side) => Math.max(1, Math.round(side * share))));
    const context = small.getContext("2d", { alpha: false, willReadFrequently: true }); // a frame has nothing transparent
    context.imageSmoothingQuality = "medium";
    context.drawImage(this.#video, 0, 0, small.width, small.height);
    return context.getImageData(0, 0, small.width, small.height);
  }

  /** The same, as large as it is, to be looked at. */
  copied(canvas) {
    if (!this.#video.videoWidth) throw new Refusal("camera-broken"); // let go since
    [canvas.width, canvas.height] = [this.#video.videoWidth, this.#video.videoHeight];
    canvas.getContext("2d").drawImage(this.#video, 0, 0);
    return canvas;
  }

  goOn() {
    this.still = false;
    if (this.on) this.#video.play().catch(() => undefined); // it was let go meanwhile
  }

  stop() {
    ended(this.#stream);
    this.still = false;
    this.#stream = undefined;
    this.#stops += 1;
    this.#video.srcObject = null;
  }
}

const ended = (stream) => stream?.getTracks().forEach((track) => track.stop());
