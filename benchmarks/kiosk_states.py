"""Every state of the page, and how a browser gets there: tests/test_kiosk_looks.py and benchmarks/kiosk_screenshots.py.

A state is reached as a person reaches it where a headless browser can do that. What no fake camera and no healthy
server do is made up: an error of the browser's camera, the server's answer, a worker that breaks.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from benchmarks.kiosk import until
from seamline import Classifier, bundle, likeness
from tasks.bundle import manifest_of
from tests import golden

SIZES = {
    "telephone": (360, 740),
    "seven inches": (800, 480),
    "kiosk": (1024, 768),
    "upright": (768, 1024),
    "large": (3840, 2160),
}
BOMB = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (100_000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0" + b"\0" * 40
SAMPLE = "sneaker"
SELECTOR = f'[data-sample="{SAMPLE}.png"]'
FILMED = "!document.getElementById('capture').hidden && document.getElementById('video').videoWidth > 0"
DARK = 20  # mean grey level of a picture in which little is seen
PATIENCE_S = 61  # just longer than a page waits for its worker

Act = Callable[[Any], object]  # of Playwright's page


class State(NamedTuple):
    """What is done to a page."""

    reach: Act  # once the model answers, if it does
    before: Act = bool  # anything is fetched; bool: nothing
    ready: bool = True  # whether the model comes to answer
    query: str = "?idle=3600"
    host: str = "127.0.0.1"


def shop(folder: Path) -> list[str]:
    """Pictures of a stock and its index, written there; the options of `seamline kiosk` that show them.

    The page is served to other machines as well: only such an address is insecure.
    """
    classifier, stock = Classifier(golden.REFERENCE), folder / "stock"
    stock.mkdir()
    images = np.stack([image for image in golden.garments() if image.mean() > DARK])
    images = np.concatenate([images, (0.9 * images).astype(np.uint8)])  # enough that are alike
    names = [
        f"{classifier.classes[best]}-{k}.png".replace("/", "-") for k, best in enumerate(_best(classifier, images))
    ]
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image).save(stock / name)
    likeness.write(folder / "index.safetensors", likeness.Index(names, classifier.embed(images), classifier.digest))
    told = {
        "--bundle": golden.REFERENCE,
        "--index": folder / "index.safetensors",
        "--stock": stock,
        "--host": "0.0.0.0",  # noqa: S104
    }
    return [str(word) for option in told.items() for word in option]


def _best(classifier: Classifier, images: Any) -> list[int]:
    best: list[int] = classifier.probabilities(images).argmax(axis=1).tolist()
    return best


def bring(page: Any, port: int | None, state: State) -> None:
    """A fresh page to that state, of the server at that port. A service worker in its context would answer first."""
    state.before(page)
    page.goto(f"http://{state.host}:{port}/{state.query}")
    if state.ready:
        page.wait_for_selector("body[data-ready]")
    state.reach(page)
    page.wait_for_timeout(100)  # what is scrolled to, is


def both(*acts: Act) -> Act:
    """One after the other."""
    return lambda page: [act(page) for act in acts]


def run(script: str) -> Act:
    return lambda page: page.evaluate(script)


def reply(pattern: str, **answer: Any) -> Act:
    """From now on that is the server's answer."""
    return lambda page: page.route(pattern, lambda route: route.fulfill(**answer))


def cut(pattern: str) -> Act:
    return lambda page: page.route(pattern, lambda route: route.abort())


def tap(selector: str) -> Act:
    return lambda page: page.click(selector)


def wait(selector: str) -> Act:
    return lambda page: page.wait_for_selector(selector)


def said(state: str) -> Act:
    """Waits for that notice."""
    return wait(f"#notice[data-state='{state}']:not([hidden])")


def sample(page: Any) -> None:
    page.click(SELECTOR)
    page.wait_for_selector("body[data-answer]")


def give(content: bytes) -> Act:
    """A file, as a person chooses it."""
    return lambda page: page.set_input_files("#file", {"name": "x.png", "mimeType": "image/png", "buffer": content})


def refused(content: bytes, state: str) -> State:
    return State(both(give(content), said(state)))


def noise(page: Any) -> None:
    """What is no garment."""
    pixels = np.random.default_rng(1).integers(0, 256, (28, 28), dtype=np.uint8)
    pixels[0, 0] = 0
    give(golden.png(Image.fromarray(pixels)))(page)
    page.wait_for_selector("#answer.unknown")


def photograph(page: Any) -> None:
    """Cut out, and seen six times."""
    give(next(case.content for case in golden.photographs()))(page)
    page.wait_for_selector("body[data-answer]")


def drag(kind: str) -> Act:
    """As a person drags a text from another window."""

    def dragged(page: Any) -> None:
        at = page.locator("#frame").bounding_box()
        data = {"items": [{"mimeType": "text/plain", "data": "Dear"}], "files": [], "dragOperationsMask": 1}
        place = {"x": at["x"] + 20, "y": at["y"] + 20, "data": data}
        page.context.new_cdp_session(page).send("Input.dispatchDragEvent", {"type": kind} | place)

    return dragged


def filming(page: Any) -> None:
    page.click("#camera")
    until(page, FILMED)


def camera(error: str, state: str) -> State:
    """The browser's error instead of a camera."""
    throws = f"void (navigator.mediaDevices.getUserMedia = async () => {{ throw new DOMException('', '{error}'); }})"
    return State(both(run(throws), tap("#camera"), said(state)))


def served(**changed: Any) -> Act:
    """Another bundle than the one in git: files by their names without suffix, or the manifest's `version`."""
    files = {path.name: path.read_bytes() for path in golden.REFERENCE.iterdir()}
    manifest = json.loads(files.pop(bundle.MANIFEST))
    version = changed.pop("version", manifest["version"])
    files |= {next(name for name in files if Path(name).stem == stem): content for stem, content in changed.items()}
    facts = {"classes": manifest["classes"], "metrics": {}}
    files[bundle.MANIFEST] = manifest_of(version, facts, files)
    return both(*(reply(f"**/bundle/{name}*", body=content) for name, content in files.items()))


def wrong() -> bytes:
    """Golden vectors of other images."""
    vectors = json.loads((golden.REFERENCE / bundle.GOLDEN).read_bytes())
    return json.dumps(vectors | {"images": vectors["images"][::-1]}).encode()


def without_model(before: Act, state: str) -> State:
    return State(said(state), before, ready=False)


def breaks(page: Any, fault: str) -> None:
    """The worker does that over the next picture."""
    page.workers[0].evaluate(f"void (self.createImageBitmap = () => new Promise(() => {{ {fault} }}))")
    give((golden.ROOT / f"examples/{SAMPLE}.png").read_bytes())(page)  # at once: a sample is fetched first


def hangs(page: Any) -> None:
    page.clock.install()
    breaks(page, "for (;;);")
    page.clock.fast_forward(1000 * PATIENCE_S)


def unasked(page: Any) -> None:
    page.add_init_script(UNASKED)


def offline(page: Any) -> None:
    page.context.set_offline(True)
    page.wait_for_selector("#offline:not([hidden])")


def corrected(page: Any) -> None:
    page.wait_for_selector("#wrong")
    page.click("#wrong")
    page.click("#kinds button:has-text('Ankle boot')")


def correction(status: int, state: str) -> State:
    return State(both(sample, corrected, said(state)), both(TAKES, reply("**/v1/corrections", status=status)))


TAP_SAMPLE = tap(SELECTOR)
TAKES = reply("**/v2/health/ready", json={"ready": True, "corrections": True})
NO_STOCK = reply("**/index.safetensors", status=404)
UNASKED = """Worker.prototype.postMessage = new Proxy(Worker.prototype.postMessage, {
  apply: (post, worker, [asked, ...handedOver]) => asked.task === "load" || post.call(worker, asked, ...handedOver),
})"""  # the model is never fetched
CRASHES = "setTimeout(() => { throw new Error('gone'); })"
PREPARE = run("seamline.prepare()")
UNPLUGGED = "document.getElementById('video').srcObject.getVideoTracks()[0].dispatchEvent(new Event('ended'))"
THINKS = "void (seamline.thinker.answer = () => new Promise(() => undefined))"
FAULT = "void (seamline.thinker.answer = () => Promise.reject(new Error('x is not a function')))"

SEEN = {
    "getting ready": State(bool, unasked, ready=False),
    "ready": State(bool),
    "camera": State(filming),
    "dropping": State(both(drag("dragEnter"), drag("dragOver"))),
    "looking": State(both(run(THINKS), TAP_SAMPLE, wait("#working:not([hidden])"))),
    "answer": State(sample, NO_STOCK),
    "photograph": State(photograph, NO_STOCK),
    "unknown": State(noise, NO_STOCK),
    "stock": State(sample),
    "stock offline": State(both(cut("**/stock/*"), sample, offline)),
    "corrections": State(both(sample, wait("#wrong")), both(TAKES, NO_STOCK)),
    "stock and corrections": State(both(sample, wait("#wrong")), TAKES),
    "kinds": State(both(sample, tap("#wrong")), TAKES),
    "thanks": State(
        both(sample, corrected, wait("#thanks:not(:empty)")),
        both(TAKES, reply("**/v1/corrections", status=201)),
    ),
    "offline": State(offline),
    "new bundle": State(both(served(version=99), PREPARE)),
    "new bundle refused": State(both(sample, served(golden=wrong(), version=99), PREPARE, said("model-wrong"))),
    "attract": State(wait("#attract[open]"), query="?idle=5"),
}  # fmt: skip

NOTICES = {
    "camera-none": camera("NotFoundError", "camera-none"),
    "camera-refused": camera("NotAllowedError", "camera-refused"),
    "camera-busy": camera("NotReadableError", "camera-busy"),
    "camera-broken": camera("UnknownError", "camera-broken"),
    "camera-unplugged": State(both(filming, run(UNPLUGGED), said("camera-unplugged"))),
    "camera-insecure": State(both(tap("#camera"), said("camera-insecure")), host="0.0.0.0"),  # noqa: S104
    "picture-none": State(both(drag("dragEnter"), drag("dragOver"), drag("drop"), said("picture-none"))),
    "picture-empty": refused(b"", "picture-empty"),
    "picture-other": refused(b"<html>", "picture-other"),
    "picture-broken": refused((golden.ROOT / "examples/bag.png").read_bytes()[:60], "picture-broken"),
    "picture-large": refused(BOMB, "picture-large"),
    "no-garment": refused(golden.png(Image.new("RGB", (99, 99), "white")), "no-garment"),
    "model-waiting": State(both(TAP_SAMPLE, said("model-waiting")), unasked, ready=False),
    "runtime-absent": without_model(cut("**/vendor/ort.wasm.bundle.min.mjs"), "runtime-absent"),
    "bundle-absent": without_model(reply("**/bundle/manifest.json", status=404), "bundle-absent"),
    "bundle-broken": without_model(reply("**/bundle/manifest.json", json={"format": 1}), "bundle-broken"),
    "bundle-format": without_model(reply("**/bundle/manifest.json", json={"format": 2}), "bundle-format"),
    "model-broken": without_model(served(model=b"no model"), "model-broken"),
    "model-wrong": without_model(served(golden=wrong()), "model-wrong"),
    "offline": without_model(cut("**/bundle/manifest.json"), "offline"),
    "sample-absent": State(both(cut(f"**/samples/{SAMPLE}.png"), TAP_SAMPLE, said("sample-absent"))),
    "worker-broken": State(both(partial(breaks, fault=CRASHES), said("worker-broken"))),
    "worker-slow": State(both(hangs, said("worker-slow"))),
    "correction-lost": correction(503, "correction-lost"),
    "correction-enough": correction(429, "correction-enough"),
    "correction-full": correction(507, "correction-full"),
    "correction-refused": correction(422, "correction-refused"),
    "fault": State(both(run(FAULT), TAP_SAMPLE, said("fault"))),
}  # by the names of kiosk/states.js  # fmt: skip

STATES = SEEN | {f"notice {name}": state for name, state in NOTICES.items()}
