"""How fast the page answers in Chromium, and how its memory grows: python -m benchmarks.kiosk → benchmarks/kiosk.md.

The camera is Chromium's fake one and shows photographs, ten frames of each. A tap's answer takes from the tap until the
page shows it; the other two are the worker's. The heap is what page and workers hold after a collection of garbage:
V8's and the document's objects, arrays. The anonymous memory of the renderers' processes (RssAnon in /proc) also has
onnxruntime's WebAssembly and the room that V8 keeps for garbage to come.

--captures N    camera captures for the memory (1,000; 10,000 takes a quarter of an hour)
--photographs DIR    folders of photographs, class by class, which are then shown in place of made ones; and how far the
                     page's views lie from Python's, JPEG and all
"""

import argparse
import base64
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from benchmarks import measured
from benchmarks.photographs import RIGHT
from seamline import bundle, pictures
from tests import golden

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "benchmarks/kiosk.md"
CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--js-flags=--expose-gc",
)
WARM = 100  # captures after which what is made once has been made
COLD = 5  # loads, each in a browser profile of its own
CHUNK = 1000  # captures between two looks at the memory
ANSWERS = 100
PAUSE_MS = 100  # at least, before a tap: another frame of the film
SHOWN = 100  # photographs
CAMERA = (960, 720)  # pixels, as the page asks for
FRAMES = 10  # of each photograph, a third of a second
LONG_MS = 3_600_000
AGAIN = """async (packed) => {
  const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
  const start = performance.now();
  await seamline.thinker.answer(new Blob([bytes])).catch(() => undefined); // nothing but ground
  return performance.now() - start;
}"""
TAPS = """async ([count, pausesMs]) => {
  const element = (id) => document.getElementById(id);
  const [camera, capture, again, video] = ["camera", "capture", "again", "video"].map(element);
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  const filming = async () => {
    for (const until = performance.now() + 30_000; capture.hidden || !video.videoWidth; await pause(2)) {
      if (performance.now() > until) throw new Error("The camera did not start.");
    }
  };
  const times = [];
  for (let k = 0; k < count; k++) {
    dispatchEvent(new Event("pointerdown")); // somebody is there: the page would let the camera go after a minute
    camera.click();
    await filming();
    await pause(pausesMs * (1 + 2 * Math.random()));
    const answered = new Promise((done) => {
      const seen = () => document.body.dataset.answer || !element("notice").hidden;
      const observer = new MutationObserver(() => seen() && (observer.disconnect(), done()));
      observer.observe(document.body, { attributes: true, subtree: true });
    });
    const start = performance.now();
    capture.click();
    await answered;
    if (document.body.dataset.answer) times.push(performance.now() - start); // not a picture without a garment
    again.click();
  }
  return times;
}"""
SHRUNK = """async (packed) => {
  const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
  const { width, height } = await createImageBitmap(new Blob([bytes]));
  const sized = (from, longest, quality) => {
    const share = longest / Math.max(width, height);
    const canvas = new OffscreenCanvas(...[width, height].map((side) => Math.round(side * share)));
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = quality;
    context.drawImage(from, 0, 0, canvas.width, canvas.height);
    return canvas;
  };
  const whole = sized(await createImageBitmap(new Blob([bytes])), 1280, "high");
  const shrunk = sized(whole, 512, "medium"); // as kiosk/camera.js does
  const named = async (canvas) => {
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return (await seamline.thinker.answer(pixels)).order[0].name;
  };
  return [await named(whole), await named(shrunk)];
}"""
VIEWS = """async (packed) => {
  const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
  const { seen, views } = await seamline.thinker.answer(new Blob([bytes]));
  return { seen: Array.from(seen), views };
}"""


@contextlib.contextmanager
def serving(*options: str) -> Iterator[str]:
    """The page, from a process of its own, with the bundle that came with this clone."""
    command = [sys.executable, "-m", "seamline", "kiosk", "--port", "0", "--bundle", str(bundle.own()), *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101  for the type checker: it was asked for
        try:
            yield process.stdout.readline().split()[0]
        finally:
            process.terminate()


def cold(browser: Any, address: str) -> list[float]:
    """Milliseconds from the address to the first answer, of a browser that has never been there."""
    times = []
    for _ in range(COLD):
        context = browser.new_context()
        page = context.new_page()
        page.goto(address, wait_until="commit")
        page.evaluate("""async () => {
          while (!document.body?.dataset.ready) await new Promise((done) => setTimeout(done, 5));
          document.querySelector('[data-sample="bag.png"]').click();
          while (!document.body.dataset.answer) await new Promise((done) => setTimeout(done, 1));
        }""")
        times.append(page.evaluate("performance.now()"))
        context.close()
    return times


def opened(browser: Any, address: str) -> Any:
    context = browser.new_context(permissions=["camera"])
    page = context.new_page()
    page.set_default_timeout(LONG_MS)
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    return page


def shown(folder: Path | None) -> list[bytes]:
    """The photographs that are shown: every so many of the folder, so that each class is there, or made ones."""
    if folder is None:
        return [case.content for case in golden.photographs(SHOWN)]
    found = sorted(folder.rglob("*.jp*g"))
    count = min(SHOWN, len(found))
    return [found[k * len(found) // count].read_bytes() for k in range(count)]


def film(photographs: list[bytes], path: Path) -> Path:
    """Motion JPEG, as Chromium's fake camera takes it, over and over."""
    with path.open("wb") as file:
        for content in photographs:
            with Image.open(io.BytesIO(content)) as opened:
                frame = io.BytesIO()
                ImageOps.fit(opened.convert("RGB"), CAMERA).save(frame, "JPEG", quality=85)
            file.write(frame.getvalue() * FRAMES)
    return path


def later(page: Any, photographs: list[bytes]) -> dict[str, list[float]]:
    """Milliseconds to an answer that is not the first."""
    product = (ROOT / "kiosk/samples/coat.png").read_bytes()
    times = {}
    for name, contents in (("product shot", [product] * ANSWERS), ("photograph", photographs)):
        packed = [base64.b64encode(content).decode() for content in contents]
        [page.evaluate(AGAIN, one) for one in packed]  # once: a browser compiles what it has seen often
        times[name] = [page.evaluate(AGAIN, one) for one in packed]
    page.evaluate(TAPS, [ANSWERS, PAUSE_MS])
    times["tap on the camera's button"] = page.evaluate(TAPS, [ANSWERS, PAUSE_MS])
    return times


def until(page: Any, expression: str) -> None:
    """Polled from outside: the page's policy forbids what Playwright's `wait_for_function` does inside it."""
    while not page.evaluate(expression):
        page.wait_for_timeout(20)


def memory_bytes(browser: Any, page: Any) -> dict[str, int]:
    """What page and workers hold after a collection of garbage: their heaps; and the renderers' anonymous memory."""
    heap = _heap_bytes(page)
    processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    return {"heap": heap, "RssAnon": sum(_anonymous_bytes(one["id"]) for one in processes if one["type"] == "renderer")}


def _heap_bytes(page: Any) -> int:
    """JavaScript's objects, the document's, and arrays, of the page and of its workers, which are asked through it."""
    session, said, found = page.context.new_cdp_session(page), list[dict[str, Any]](), list[str]()
    session.on("Target.attachedToTarget", lambda event: found.append(event["sessionId"]))
    session.on("Target.receivedMessageFromTarget", lambda event: said.append(json.loads(event["message"])))
    session.send("HeapProfiler.collectGarbage")
    session.send("Target.setAutoAttach", {"autoAttach": True, "waitForDebuggerOnStart": False, "flatten": False})
    for worker in found:
        for number, method in enumerate(("HeapProfiler.collectGarbage", "Runtime.getHeapUsage")):
            message = json.dumps({"id": number, "method": method})
            session.send("Target.sendMessageToTarget", {"sessionId": worker, "message": message})
    while sum(one.get("id") == 1 for one in said) < len(found):
        page.wait_for_timeout(20)
    usages = [session.send("Runtime.getHeapUsage"), *(one["result"] for one in said if one.get("id") == 1)]
    session.detach()
    return sum(usage[part] for usage in usages for part in ("usedSize", "embedderHeapUsedSize", "backingStorageSize"))


def _anonymous_bytes(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def growth(browser: Any, page: Any, captures: int) -> dict[str, list[float]]:
    """MB above what there was after a hundred, by the thousand."""
    page.evaluate(TAPS, [WARM, 0])
    before = memory_bytes(browser, page)
    grown: dict[str, list[float]] = {kind: [] for kind in before}
    for done in range(0, captures, CHUNK):
        page.evaluate(TAPS, [min(CHUNK, captures - done), 0])
        now = memory_bytes(browser, page)
        for kind, more in grown.items():
            more.append(round((now[kind] - before[kind]) / 2**20, 1))
        print(f"{min(done + CHUNK, captures):,} captures: {grown}", flush=True)
    return grown


def distances(page: Any, folder: Path) -> dict[str, float]:
    """Of photographs as they come, JPEG: how far the page's first view lies from Python's."""
    most, right = [], [0, 0]
    for path in sorted(folder.rglob("*.jp*g")):
        packed = base64.b64encode(path.read_bytes()).decode()
        for which, name in enumerate(page.evaluate(SHRUNK, packed)):
            right[which] += name in RIGHT.get(path.parent.name, set())
        found = page.evaluate(VIEWS, packed)
        most.append(int(np.abs(np.array(found["seen"]) - pictures.read(path).ravel()).max()))
    return {
        "pictures": len(most),
        "within one grey level": float(np.mean(np.array(most) <= 1)),
        "within eight": float(np.mean(np.array(most) <= 8)),  # noqa: PLR2004  a level for the report
        "named rightly as frames of 1280": right[0],
        "as frames shrunk to 512": right[1],
    }


def main() -> None:
    """Measure and write the report."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser()
    parser.add_argument("--captures", type=int, default=1000)
    parser.add_argument("--photographs", type=Path)
    chosen = parser.parse_args()
    if not (ROOT / "kiosk/vendor").is_dir():
        parser.error("the page has not all that it needs yet: make kiosk")
    photographs = shown(chosen.photographs)
    with tempfile.TemporaryDirectory() as folder, serving() as address, sync_playwright() as driver:
        filmed = film(photographs, Path(folder) / "film.mjpeg")
        flags = [*FLAGS, f"--use-file-for-fake-video-capture={filmed}"]
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        first = cold(browser, address)
        page = opened(browser, address)
        times = later(page, photographs)
        grown = growth(browser, page, chosen.captures)
        apart = distances(page, chosen.photographs) if chosen.photographs else {}
        browser.close()
    rows = [
        ("first answer after a cold load, ms", statistics.median(first), max(first), "≤ 3,000"),
        *[(f"{name}, ms", statistics.median(found), _p95(found), "≤ 50") for name, found in times.items()],
    ]
    lines = ["| | median | worst of 5, 95 % | asked |", "|---|---:|---:|---:|"]
    lines += [f"| {name} | {middle:,.0f} | {high:,.0f} | {asked} |" for name, middle, high, asked in rows]
    asked = f"up to {chosen.captures:,} (heap: ≤ 20 after 10,000)"
    lines += ["", f"MB above that after {WARM} captures, by the thousand {asked}:"]
    lines += ["", *(f"- {kind}: {', '.join(f'{more:+.1f}' for more in grown[kind])}" for kind in grown)]
    lines += ["", f"Photographs as they come: `{json.dumps(apart)}`"] if apart else []
    REPORT.write_text("\n".join(["# The page", "", _where(chosen), "", *lines, ""]), encoding="utf-8")
    print("\n".join(lines))


def _where(chosen: argparse.Namespace) -> str:
    options = f" CAPTURES={chosen.captures}{' PHOTOGRAPHS=DIR' if chosen.photographs else ''}"
    where = measured.by(f"make bench-kiosk{options}")
    running = f"headless Chromium from this machine; {os.getloadavg()[1]:.1f} processes were running."
    return f"{where}, {running}\nThe model is {measured.model(bundle.own())}, in float32."


def _p95(times: list[float]) -> float:
    return sorted(times)[int(0.95 * len(times))]


if __name__ == "__main__":
    main()
