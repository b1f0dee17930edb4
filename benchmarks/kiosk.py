"""How fast the page answers in Chromium, and how its memory grows: python -m benchmarks.kiosk → benchmarks/kiosk.md.

Pictures and onnxruntime live in a worker, whose memory is mostly not JavaScript's: what counts is the anonymous
memory of the renderer's process (RssAnon in /proc): of the page, its worker and the worker's WebAssembly.

--captures N    camera captures for the memory (1,000; 10,000 takes a quarter of an hour)
--photographs DIR    folders of photographs, class by class: how far the page's views lie from Python's, JPEG and all
"""

import argparse
import base64
import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measured
from seamline import bundle, pictures

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "benchmarks/kiosk.md"
CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--use-fake-device-for-media-stream=fps=60",
    "--use-fake-ui-for-media-stream",
    "--js-flags=--expose-gc",
)
WARM = 100  # captures after which what is made once has been made
COLD = 5  # loads, each in a browser profile of its own
CHUNK = 1000  # captures between two looks at the memory
ANSWERS = 50
LONG_MS = 3_600_000
AGAIN = """async (name) => {
  const picture = await (await fetch(`samples/${name}`)).blob();
  const start = performance.now();
  await seamline.thinker.answer(picture);
  return performance.now() - start;
}"""
CAMERA = """async (count) => {
  const video = document.getElementById("video");
  const times = [];
  for (let k = 0; k < count; k++) {
    const start = performance.now();
    await seamline.thinker.answer(await createImageBitmap(video));
    times.push(performance.now() - start);
  }
  return times;
}"""
CAPTURES = """async (count) => {
  const [camera, capture, again] = ["camera", "capture", "again"].map((id) => document.getElementById(id));
  const until = async (true_) => { while (!true_()) await new Promise((done) => setTimeout(done, 2)); };
  for (let k = 0; k < count; k++) {
    dispatchEvent(new Event("pointerdown")); // somebody is there: the page would let the camera go after a minute
    camera.click();
    await until(() => !capture.hidden && document.getElementById("video").videoWidth);
    capture.click();
    await until(() => document.body.dataset.answer);
    again.click();
  }
}"""
VIEWS = """async (packed) => {
  const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
  const { seen, views } = await seamline.thinker.answer(new Blob([bytes]));
  return { seen: Array.from(seen), views };
}"""


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """The page, from a process of its own, with the bundle that came with this clone."""
    command = [sys.executable, "-m", "seamline", "kiosk", "--port", "0", "--bundle", str(bundle.own())]
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


def later(page: Any) -> tuple[list[float], list[float]]:
    """Milliseconds of a product shot and of a camera's frame, 640 × 480 or what the fake camera has."""
    samples = [page.evaluate(AGAIN, "coat.png") for _ in range(ANSWERS)]
    page.click("#camera")
    until(page, "document.getElementById('video').videoWidth > 0")
    frames = page.evaluate(CAMERA, ANSWERS)
    page.click("#again")
    return samples, frames


def until(page: Any, expression: str) -> None:
    """Polled from outside: the page's policy forbids what Playwright's `wait_for_function` does inside it."""
    while not page.evaluate(expression):
        page.wait_for_timeout(20)


def memory_bytes(browser: Any, page: Any) -> int:
    """Anonymous memory of all renderers, after a collection of garbage."""
    page.context.new_cdp_session(page).send("HeapProfiler.collectGarbage")
    processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    return sum(_anonymous_bytes(one["id"]) for one in processes if one["type"] == "renderer")


def _anonymous_bytes(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def growth(browser: Any, page: Any, captures: int) -> int:
    page.evaluate(CAPTURES, WARM)
    before = memory_bytes(browser, page)
    for done in range(0, captures, CHUNK):
        page.evaluate(CAPTURES, min(CHUNK, captures - done))
        print(
            f"{min(done + CHUNK, captures):,} captures: {(memory_bytes(browser, page) - before) / 2**20:+.1f} MB",
            flush=True,
        )
    return memory_bytes(browser, page) - before


def distances(page: Any, folder: Path) -> dict[str, float]:
    """Of photographs as they come, JPEG: how far the page's first view lies from Python's."""
    most = []
    for path in sorted(folder.rglob("*.jp*g")):
        found = page.evaluate(VIEWS, base64.b64encode(path.read_bytes()).decode())
        most.append(int(np.abs(np.array(found["seen"]) - pictures.read(path).ravel()).max()))
    return {
        "pictures": len(most),
        "within one grey level": float(np.mean(np.array(most) <= 1)),
        "within eight": float(np.mean(np.array(most) <= 8)),  # noqa: PLR2004  a level for the report
    }


def main() -> None:
    """Measure and write the report."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser()
    parser.add_argument("--captures", type=int, default=1000)
    parser.add_argument("--photographs", type=Path)
    chosen = parser.parse_args()
    with serving() as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        first = cold(browser, address)
        page = opened(browser, address)
        samples, frames = later(page)
        grown = growth(browser, page, chosen.captures)
        apart = distances(page, chosen.photographs) if chosen.photographs else {}
        browser.close()
    rows = [
        ("first answer after a cold load, ms", statistics.median(first), max(first), "≤ 3,000"),
        ("product shot, ms", statistics.median(samples), _p95(samples), "≤ 50"),
        ("camera's frame, ms", statistics.median(frames), _p95(frames), "≤ 50"),
    ]
    lines = ["| | median | worst of 5, 95 % | asked |", "|---|---:|---:|---:|"]
    lines += [f"| {name} | {middle:,.0f} | {high:,.0f} | {asked} |" for name, middle, high, asked in rows]
    changed = f"{chosen.captures:,} captures: {grown / 2**20:+.1f} MB"
    lines += ["", f"Memory of page and worker (RssAnon) after {changed} (asked: at most 20 after 10,000)."]
    lines += ["", f"Photographs as they come: `{json.dumps(apart)}`"] if apart else []
    REPORT.write_text("\n".join(["# The page", "", _where(), "", *lines, ""]), encoding="utf-8")
    print("\n".join(lines))


def _where() -> str:
    where = measured.by("python -m benchmarks.kiosk")
    return f"{where}, headless Chromium from this machine; {os.getloadavg()[1]:.1f} processes were running."


def _p95(times: list[float]) -> float:
    return sorted(times)[int(0.95 * len(times))]


if __name__ == "__main__":
    main()
