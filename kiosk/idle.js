// When nobody has touched anything for a while: the last picture is forgotten, and passers-by are invited.

const SIGNS = ["pointerdown", "pointermove", "keydown", "wheel", "touchstart", "change", "paste", "drop"];

export class Idle {
  #timer;

  constructor(seconds, gone) {
    [this.seconds, this.gone] = [seconds, gone];
    for (const sign of SIGNS) addEventListener(sign, () => this.touched(), { passive: true, capture: true });
    this.touched();
  }

  touched() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.gone, this.seconds * 1000);
  }
}

/** What `?idle=90` in the address says: 5 … 3600 seconds; 60 without it. */
export function seconds(search) {
  const wanted = Number(new URLSearchParams(search).get("idle") || 60);
  return wanted >= 5 && wanted <= 3600 ? wanted : 60;
}
