// The page: what a person does leads to a picture, a picture to an answer. One picture at a time: a newer one makes an
// older one's answer void, however often somebody taps.

import { Camera } from "./camera.js";
import { Idle, seconds } from "./idle.js";
import { follow, keep, look } from "./offline.js";
import { Refusal } from "./refusal.js";
import { answered, at, blank, headline, intoView, made, notice, shown, toAnswer, unnoticed } from "./screen.js";
import { Service } from "./service.js";
import { Thinker } from "./thinker.js";

const RETRY_MS = 5000; // for a model that was not to be had
const LOOK_MS = 60_000; // for a newer one
const SERVICE_MS = 10_000;
const CRASHES = 3; // in a row; then a person has to ask again

const thinker = new Thinker(() => (reopened = ++crashes < CRASHES ? prepare() : undefined));
const camera = new Camera(at("video"), (refusal) => (watching(false), fail(refusal)));
const service = new Service(corrections);
const acts = { reload: () => ((crashes = 0), (hindrance = undefined), prepare()), refresh: () => location.reload(), camera: watch, choose: () => at("file").click() };

let crashes = 0;
let model; // what the worker said of it
let reopened; // a promise: after the worker was ended, the model is there again, or why not is said
let hindrance; // what hinders the model, if anything does
let turn = 0; // of the newest picture
let held; // the picture that is shown: a Blob, or the canvas with a camera's frame

/** Fetches the model, or a newer one; again and again, until there is one. */
async function prepare() {
  try {
    const found = await thinker.load();
    const first = !model;
    if (first) shown("version", `Model version ${found.version}`);
    else if (found.version !== model.version) renewed(found.version);
    model = found;
    crashes = 0;
    kindsOffered();
    document.body.dataset.ready = model.version;
    if (first) keep();
    if (first && !held) blank();
    announce(found.refused?.state === "offline" ? undefined : found.refused);
    connected(found.refused?.state !== "offline");
  } catch (error) {
    connected(error.state !== "offline");
    if (!model) headline("Not ready", "No model yet", "Pictures can be looked at as soon as there is one.");
    announce(error);
    if (crashes < CRASHES) setTimeout(() => model || prepare(), RETRY_MS);
  }
}

/** Said, and shown until the page is blank again. */
function renewed(version) {
  at("said").textContent = `Model version ${version} answers now.`;
  shown("version", `Model version ${version}, new`);
}

/** What hinders the model: once, however often it is met, so that a notice which was closed stays closed. */
function announce(met) {
  const known = met?.state === hindrance?.state && met?.detail === hindrance?.detail;
  hindrance = met;
  if (!met && at("notice").dataset.about === "model") unnoticed();
  if (met && !known) fail(met, "model");
}

function connected(yes) {
  at("offline").textContent = model ? "Offline: go on, garments are named" : "Offline";
  at("offline").hidden = yes && navigator.onLine;
}

function fail(error, about = "picture") {
  const state = error.state ?? "fault";
  if (about === "picture") kinds(false);
  at("notice").dataset.about = about;
  notice({ state, detail: error.detail ?? (error instanceof Error ? error.message : "") }, acts);
  if (about === "picture") setTimeout(intoView);
}

/** A picture that no model is there for: why there is none. */
function unanswered(waiting) {
  fail(hindrance ?? waiting, "model");
  setTimeout(intoView);
}

/** Whatever holds a picture, to its answer. */
async function ask(source, show, keep = source) {
  const mine = ++turn;
  unnoticed();
  const slow = setTimeout(() => (at("working").hidden = false), 150);
  try {
    const given = await source;
    await reopened;
    if (mine !== turn) return;
    const answer = await thinker.answer(given);
    if (mine !== turn) return;
    const picture = await keep;
    if (mine !== turn) return;
    held = picture;
    show(picture);
    answered(answer, model.below);
    at("thanks").textContent = "";
    kinds(false);
    at("again").hidden = false;
    intoView();
    document.body.dataset.answer = String(mine);
    document.body.dataset.ms = (answer.ms.prepared + answer.ms.answered).toFixed(1);
  } catch (error) {
    if (mine !== turn) return;
    if (error.state === "model-waiting") unanswered(error);
    else fail(error);
  } finally {
    clearTimeout(slow);
    if (mine === turn) at("working").hidden = true;
  }
}

function opened(files) {
  at("attract").close(); // a person is there: a dialogue of the browser's was open for longer than the page waits
  const [file] = files;
  if (!file) return fail(new Refusal("picture-none"));
  watching(false);
  return ask(file, picture);
}

async function sample(name) {
  watching(false);
  const fetched = fetch(`samples/${name}`)
    .catch(() => undefined)
    .then((response) => (response?.ok ? response.blob() : Promise.reject(new Refusal("sample-absent"))));
  await ask(fetched, picture);
}

function picture(blob) {
  const image = at("picture");
  URL.revokeObjectURL(image.src);
  image.onload = () => image.classList.toggle("tiny", image.naturalWidth < 100);
  image.src = URL.createObjectURL(blob);
  filled("picture");
}

/** Which of the elements in the frame is seen. */
function filled(id) {
  for (const one of ["invitation", "video", "still", "picture"]) at(one).hidden = one !== id;
  at("frame").classList.toggle("full", id !== "invitation");
}

async function watch() {
  if (at("camera").getAttribute("aria-disabled") === "true") return;
  at("camera").setAttribute("aria-disabled", "true");
  try {
    await camera.start();
    if (!camera.on) return; // let go meanwhile: somebody wanted another picture, or nobody was there
    unnoticed();
    watching(true);
    at("capture").focus({ preventScroll: true });
    intoView("frame");
  } catch (error) {
    watching(false);
    fail(error);
  } finally {
    at("camera").removeAttribute("aria-disabled");
  }
}

function watching(on) {
  const left = !on && document.activeElement === at("capture");
  if (!on) camera.stop();
  at("capture").hidden = !on;
  at("camera").hidden = on;
  if (left) at("camera").focus();
  if (on) filled("video");
  else if (!at("video").hidden) filled("invitation");
  at("again").hidden = !on && !held;
}

async function capture() {
  if (!camera.on || camera.still) return; // a second tap adds nothing
  const mine = turn + 1;
  try {
    const still = at("still").cloneNode(); // the one that is shown stays, with its answer, until this one has its own
    const frame = camera.frame();
    const drawn = new Promise((done) => setTimeout(done)).then(() => camera.copied(still)); // while the worker thinks
    drawn.catch(() => undefined); // said by `ask`
    await ask(frame, captured, drawn);
  } catch (error) {
    fail(error);
  }
  if (turn <= mine) camera.goOn(); // there was no answer, and nobody asked since
}

/** After a capture its still picture is shown, and the camera let go. */
function captured(still) {
  at("still").replaceWith(still);
  filled("still");
  if (document.activeElement === at("capture")) toAnswer();
  at("capture").hidden = true;
  at("camera").hidden = false;
  camera.stop();
}

/** The last picture and all that was said of it. */
function forget() {
  turn += 1;
  held = undefined;
  watching(false);
  const image = at("picture");
  URL.revokeObjectURL(image.src);
  image.removeAttribute("src");
  at("still").width = 0;
  at("file").value = "";
  if (at("notice").dataset.about !== "model") unnoticed();
  at("working").hidden = true;
  filled("invitation");
  at("again").hidden = true;
  kinds(false);
  if (model) blank(model.version);
  delete document.body.dataset.answer;
}

function kindsOffered() {
  at("kinds").replaceChildren(...model.classes.map((kind) => {
    const button = made("button", { type: "button", textContent: kind });
    button.addEventListener("click", () => correct(kind));
    return button;
  }));
}

function kinds(open) {
  at("kinds").hidden = !open;
  at("wrong").setAttribute("aria-expanded", String(open));
}

/** Offered while they are taken. */
function corrections(taking) {
  if (!taking && at("correction").contains(document.activeElement)) toAnswer();
  at("correction").hidden = !taking;
}

/** Whose answer is shown, of which somebody says what it is. */
async function correct(kind) {
  const wrong = held;
  const picture = wrong instanceof Blob ? wrong : await new Promise((resolve) => wrong.toBlob(resolve, "image/jpeg", 0.92));
  kinds(false);
  at("wrong").focus();
  try {
    await service.correct(picture, kind);
    if (held === wrong) at("thanks").textContent = `Thank you. Kept as: ${kind}.`;
  } catch (error) {
    if (held === wrong) fail(error);
  }
}

function attract() {
  forget();
  if (!at("attract").open) {
    at("attract").showModal();
    scrollTo(0, 0);
  }
  look();
  prepare();
}

function begin() {
  at("attract").close();
  at("camera").focus({ preventScroll: true });
}

at("camera").addEventListener("click", watch);
at("capture").addEventListener("click", capture);
at("choose").addEventListener("click", () => at("file").click());
at("again").addEventListener("click", () => (forget(), at("camera").focus()));
at("file").addEventListener("change", ({ target }) => target.files.length && opened(target.files));
at("wrong").addEventListener("click", () => kinds(at("kinds").hidden));
at("notice-close").addEventListener("click", unnoticed);
at("samples").addEventListener("click", ({ target }) => {
  const button = target.closest("[data-sample]");
  if (button) sample(button.dataset.sample);
});
at("attract").addEventListener("click", begin);
addEventListener("paste", ({ clipboardData }) => clipboardData.files.length && opened(clipboardData.files));
addEventListener("dragover", (event) => (event.preventDefault(), at("frame").classList.add("dropping")));
addEventListener("dragleave", ({ relatedTarget }) => relatedTarget || at("frame").classList.remove("dropping"));
addEventListener("drop", (event) => {
  event.preventDefault();
  at("frame").classList.remove("dropping");
  opened(event.dataTransfer.files);
});
addEventListener("offline", () => (connected(false), service.look()));
addEventListener("online", () => (connected(true), service.look(), prepare()));
document.addEventListener("visibilitychange", () => document.hidden && watching(false));

new Idle(seconds(location.search), attract);
setInterval(() => (look(), prepare()), LOOK_MS);
service.watch(SERVICE_MS);
follow(() => !held && (at("attract").open || !camera.on));
prepare();
globalThis.seamline = { thinker, prepare }; // for tests, and for who looks after a kiosk
