// Something that cannot be done, by the name of its state: states.js has what a person is told.

export class Refusal extends Error {
  /** @param {string} detail for the person who looks after the kiosk; shown as text */
  constructor(state, detail = "") {
    super(detail || state);
    this.state = state;
    this.detail = detail;
  }
}
