// Everything that may go wrong, by name: what a person is told, and what to do about it.

const CHOOSE = "Choose a picture instead, or take a sample below.";
const again = { label: "Try again", does: "reload" };
const look = { label: "Try the camera again", does: "camera" };
const choose = { label: "Choose another", does: "choose" };

const STATES = {
  "camera-none": { title: "There is no camera here", todo: CHOOSE, action: look },
  "camera-refused": {
    title: "The camera may not be used",
    todo: `Allow it in the browser's settings for this page (the sign beside the address), then try again. ${CHOOSE}`,
    action: look,
  },
  "camera-busy": { title: "Another program is using the camera", todo: `Close that program, then try again. ${CHOOSE}`, action: look },
  "camera-unplugged": { title: "The camera was unplugged", todo: `Plug it in, then try again. ${CHOOSE}`, action: look },
  "camera-insecure": {
    title: "The camera needs a secure address",
    todo: `Browsers lend a camera only to https, and to this very machine. Open this page by https or on localhost. ${CHOOSE}`,
  },
  "camera-broken": { title: "The camera gives no picture", todo: `Unplug it and plug it in again, then try again. ${CHOOSE}`, action: look },
  "picture-none": { title: "That was no picture", todo: "Drop or paste a JPEG, PNG, WebP or GIF file.", action: choose },
  "picture-empty": { title: "That file is empty", todo: "Take or save the picture again, or use another one.", action: choose },
  "picture-other": { title: "That is not a picture that can be read", todo: "Use a JPEG, PNG, WebP or GIF file. A photograph of another kind: take a screenshot of it.", action: choose },
  "picture-broken": { title: "That picture is damaged", todo: "Take or save it again, or use another one.", action: choose },
  "picture-large": { title: "That picture is too large", todo: "Use one of at most 32 MB and 32 million pixels, a plain JPEG 80 million: a smaller size in the camera's settings, or a screenshot.", action: choose },
  "no-garment": { title: "There is nothing but ground in that picture", todo: "Lay the garment flat, alone, on ground of another colour, and take the picture from above.", action: choose },
  "model-waiting": { title: "The model is still being fetched", todo: "Wait a moment, then try again." },
  "runtime-absent": { title: "A part of this page is missing", todo: "Who looks after this page: run make kiosk, and serve its vendor folder too.", action: again },
  "bundle-absent": { title: "There is no model here", todo: "Who looks after this page: put a bundle beside it (seamline kiosk --bundle FOLDER).", action: again },
  "bundle-broken": { title: "The model's files are damaged", todo: "Who looks after this page: seamline verify says which. Publish the bundle again.", action: again },
  "bundle-format": { title: "The model is newer than this page", todo: "Load the page again. If that does not help: install the Seamline that the bundle came with.", action: { label: "Load the page again", does: "refresh" } },
  "model-broken": { title: "The model cannot be opened", todo: "Who looks after this page: seamline verify says why. A browser of the last two years is needed.", action: again },
  "model-wrong": { title: "The model answers wrongly on this device", todo: "It is not used. Update the browser, or use another device.", action: again },
  offline: { title: "The model could not be fetched", todo: "Check the network, and that the server runs. This page tries again by itself.", action: again },
  "sample-absent": { title: "That sample could not be fetched", todo: "It needs the network. Take another one, or a picture of your own.", action: choose },
  "worker-broken": { title: "Something broke while looking", todo: "It was started again. Try another picture.", action: again },
  "worker-slow": { title: "That took too long", todo: "It was started again. Try a smaller picture.", action: again },
  "correction-lost": { title: "Your correction could not be kept", todo: "It needs the network and the shop's service. Try once more when both are there." },
  "correction-enough": { title: "Enough corrections for today", todo: "Yours was not kept. The service takes more tomorrow." },
  "correction-full": { title: "There is no room for more corrections", todo: "Yours was not kept. Who looks after the service: make room in the folder of its corrections." },
  "correction-refused": { title: "Your correction was not taken", todo: "The service refused it. The answer on this page is the same." },
  fault: { title: "Something unforeseen happened", todo: "Try again. If it happens again, load the page anew.", action: { label: "Load the page again", does: "refresh" } },
};

/** @returns {{title: string, todo: string, action?: {label: string, does: string}}} */
export function told(state) {
  return STATES[state] ?? STATES.fault;
}

export const names = Object.keys(STATES);
