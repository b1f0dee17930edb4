"""Pictures of the page in every state: python -m benchmarks.kiosk_screenshots [DIR].

Without DIR only those of the guide, small, into docs/images; with it every state in three sizes, light and dark, to be
looked at.
"""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.kiosk import CHROMIUM, FLAGS, ROOT, serving, until

IMAGES = ROOT / "docs/images"
SIZES = {"telephone": (360, 740), "kiosk": (1080, 1920), "wide": (1440, 900)}
SCHEMES = ("light", "dark")
STATES = ("ready", "answer", "unknown", "camera", "notice", "attract")
GUIDE = [("wide", "light", "answer"), ("telephone", "dark", "answer"), ("kiosk", "light", "attract")]
GUIDE_HEIGHT = 540


def main() -> None:
    """All of them, or the guide's."""
    from playwright.sync_api import sync_playwright

    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    wanted = [(size, scheme, state) for size in SIZES for scheme in SCHEMES for state in STATES] if folder else GUIDE
    with serving() as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        for size, scheme, state in wanted:
            content = shot(browser, address, size, scheme, state)
            if folder:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{size}-{scheme}-{state}.png").write_bytes(content)
            else:
                small(content, IMAGES / f"kiosk-{size}-{state}.webp")
        browser.close()


def shot(browser: Any, address: str, size: str, scheme: str, state: str) -> bytes:
    """The page in a state, as PNG."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        permissions=["camera"],
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(f"{address}?idle={5 if state == 'attract' else 600}")
    page.wait_for_selector("body[data-ready]")
    put(page, state)
    content: bytes = page.screenshot()
    context.close()
    return content


def put(page: Any, state: str) -> None:
    if state == "answer":
        page.click('[data-sample="sneaker.png"]')
    if state == "unknown":
        noise = np.random.default_rng(1).integers(0, 256, (28, 28), dtype=np.uint8)
        noise[0, 0] = 0
        give(page, png(noise))
    if state == "notice":
        give(page, b"no picture")
        page.wait_for_selector("#notice:not([hidden])")
    if state == "camera":
        page.click("#camera")
        until(page, "document.getElementById('video').videoWidth > 0")
    if state in {"answer", "unknown"}:
        page.wait_for_selector("body[data-answer]")
    if state == "attract":
        page.wait_for_selector("#attract[open]")
    page.wait_for_timeout(500)


def give(page: Any, content: bytes) -> None:
    page.set_input_files("#file", {"name": "x.png", "mimeType": "image/png", "buffer": content})


def png(image: Any) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG")
    return content.getvalue()


def small(content: bytes, path: Path) -> None:
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    picture.thumbnail((10**4, GUIDE_HEIGHT), Image.Resampling.LANCZOS)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, "WEBP", quality=80, method=6)


if __name__ == "__main__":
    main()
