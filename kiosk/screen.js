// What is seen: everything is put there as text, so that a name is never more than a name.

import { told } from "./states.js";

export const at = (id) => document.getElementById(id);

/** A share as people read it: 100 % is never claimed, nor 0 %. */
export function percent(share) {
  const whole = Math.round(share * 100);
  if (whole >= 100) return "over 99 %";
  return whole < 1 ? "under 1 %" : `${whole} %`;
}

export function headline(over, title, under) {
  at("over").textContent = over;
  at("named").textContent = title;
  at("under").textContent = under;
}

/** An answer of the worker's. */
export function answered({ order, unknown, seen, views, like }, below) {
  const [best] = order;
  at("answer").classList.toggle("unknown", unknown);
  if (unknown) headline("Not sure", "I do not know this", `No kind reaches the ${percent(below)} that I need.`);
  else headline("This looks like", best.name, likelihood(best.probability));
  at("bars").replaceChildren(...order.slice(0, 3).map(bar));
  at("steps").hidden = true;
  drawn(seen);
  at("seen-how").textContent =
    views > 1 ? "Cut out of the photograph, in grey. Six views are averaged; this is the first." : "In grey, on black, the longest edge 28 pixels.";
  at("more").hidden = false;
  stocked(like);
  at("said").textContent = unknown ? "I do not know this." : `This looks like: ${best.name}, ${percent(best.probability)}.`;
}

function likelihood(probability) {
  if (probability >= 0.9) return "I am quite sure.";
  return probability >= 0.6 ? "I think so." : "It might be something else.";
}

function bar({ name, probability }) {
  const progress = made("progress", { max: 1, value: probability });
  progress.setAttribute("aria-label", name);
  return made("li", {}, made("span", { className: "name", textContent: name }), made("span", { className: "share", textContent: percent(probability) }), progress);
}

function drawn(seen) {
  const image = new ImageData(28, 28);
  seen.forEach((level, k) => image.data.set([level, level, level, 255], 4 * k));
  at("seen").getContext("2d").putImageData(image, 0, 0);
}

function stocked(like) {
  const within = at("samples").contains(document.activeElement);
  at("like").hidden = !like.length;
  at("stock").replaceChildren(...like.map(stockItem));
  if (within && !at("samples").checkVisibility()) toAnswer(); // the stock is in the samples' place
}

function stockItem({ name, likeness }) {
  const title = name.split("/").pop().replace(/\.\w+$/, "").replaceAll(/[-_]+/g, " ");
  const pane = made("div", { className: "pane" });
  const image = made("img", { alt: "", loading: "lazy", src: `stock/${name.split("/").map(encodeURIComponent).join("/")}` });
  image.addEventListener("error", () => (pane.classList.add("letter"), pane.replaceChildren(title.slice(0, 1).toUpperCase())), { once: true });
  pane.append(image);
  return made("li", {}, pane, made("span", { className: "name", textContent: title }), made("span", { className: "how", textContent: `${percent(likeness)} alike` }));
}

/** Onto the screen, if it lies elsewhere: on a telephone the answer does. */
export function intoView(id = "answer") {
  const { top } = at(id).getBoundingClientRect();
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (top < 0 || top > innerHeight * 0.6) at(id).scrollIntoView({ block: "start", behavior: calm ? "auto" : "smooth" });
}

/** As if nobody had been here. */
export function blank(version) {
  at("answer").classList.remove("unknown");
  headline("Ready", "Show me a garment", "I will say what it is.");
  at("steps").hidden = false;
  at("bars").replaceChildren();
  at("stock").replaceChildren();
  at("said").textContent = "";
  at("thanks").textContent = "";
  for (const id of ["more", "like"]) at(id).hidden = true;
  const seen = at("seen");
  seen.getContext("2d").clearRect(0, 0, seen.width, seen.height);
  if (version) shown("version", `Model version ${version}`);
}

export function shown(id, text) {
  at(id).textContent = text;
  at(id).hidden = false;
}

/** A state's notice; `acts` are what its button may do, by name. */
export function notice({ state, detail }, acts) {
  const { title, todo, action } = told(state);
  at("notice-title").textContent = title;
  at("notice-todo").textContent = todo;
  at("notice-detail").textContent = detail ?? "";
  at("notice-detail").hidden = !detail;
  const button = at("notice-action");
  button.hidden = !action;
  button.textContent = action?.label ?? "";
  button.onclick = () => {
    unnoticed();
    acts[action.does]();
  };
  at("notice").hidden = false;
  at("notice").dataset.state = state;
}

/** The notice goes; who was in it is at what comes next. */
export function unnoticed() {
  const within = at("notice").contains(document.activeElement);
  at("notice").hidden = true;
  if (within) toAnswer();
}

/** For who uses the keyboard, once the button that was pressed has gone. */
export const toAnswer = () => at("answer").focus({ preventScroll: true });

export function made(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
