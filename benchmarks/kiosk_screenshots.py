"""Pictures of the page in every state: python -m benchmarks.kiosk_screenshots [DIR [STATE…]].

Without DIR only those of the guide, small, into docs/images; with it every state (or those that are named, see
benchmarks/kiosk_states.py) in every size, light and dark, to be looked at; and a sheet of each size and scheme.
"""

import argparse
import io
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image, ImageDraw

from benchmarks.kiosk import CHROMIUM, FLAGS, ROOT, serving
from benchmarks.kiosk_states import SIZES, STATES, bring, shop

IMAGES = ROOT / "docs/images"
SCHEMES = ("light", "dark")
GUIDE = {
    "wide-answer": ((1440, 900), "light", "answer"),
    "telephone-answer": (SIZES["telephone"], "dark", "answer"),
    "kiosk-attract": ((1080, 1920), "light", "attract"),
}
GUIDE_HEIGHT = 540
SHEET_WIDTH, CAPTION = 2400, 24  # pixels
SHOWN_WIDTH = {"telephone": 236, "seven inches": 476, "kiosk": 476, "upright": 296, "large": 476}


def main() -> None:
    """All of them, or the guide's."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(prog="python -m benchmarks.kiosk_screenshots", description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="write every state there, to be looked at")
    parser.add_argument("states", nargs="*", metavar="STATE", help=f"these alone: {', '.join(STATES)}")
    chosen = parser.parse_args()
    if unknown := set(chosen.states) - set(STATES):
        parser.error(f"no such state: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as stock, serving(*shop(Path(stock))) as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        port = urlsplit(address).port
        if chosen.folder:
            every(browser, port, chosen.folder, chosen.states or list(STATES))
        else:
            for name, (size, scheme, state) in GUIDE.items():
                small(shots(browser, port, size, state, [scheme])[0], IMAGES / f"kiosk-{name}.webp")
        browser.close()


def every(browser: Any, port: int | None, folder: Path, states: list[str]) -> None:
    """A folder for each size, and a sheet for each scheme of it."""
    for name, size in SIZES.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for state in states:
            for scheme, content in zip(SCHEMES, shots(browser, port, size, state, SCHEMES), strict=True):
                (folder / name / f"{state.replace(' ', '-')}-{scheme}.png").write_bytes(content)
        for scheme in SCHEMES:
            files = [folder / name / f"{state.replace(' ', '-')}-{scheme}.png" for state in states]
            sheet(files, SHOWN_WIDTH[name]).save(folder / f"{name}-{scheme}.png")


def shots(browser: Any, port: int | None, size: tuple[int, int], state: str, schemes: Any) -> list[bytes]:
    """The page in a state, as PNG, in each colour scheme."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        permissions=["camera"],
        reduced_motion="reduce",
        service_workers="block",
    )
    page, contents = context.new_page(), []
    bring(page, port, STATES[state])
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        contents.append(page.screenshot())
    context.close()
    return contents


def sheet(files: list[Path], width: int) -> Image.Image:
    """All of these beside and below each other, with their names."""
    pictures = [Image.open(file).convert("RGB") for file in files]
    height = pictures[0].height * width // pictures[0].width
    across = SHEET_WIDTH // (width + 4)
    whole = Image.new("RGB", (across * (width + 4), -(-len(files) // across) * (height + CAPTION)), "grey")
    for k, (file, picture) in enumerate(zip(files, pictures, strict=True)):
        place = (k % across * (width + 4), k // across * (height + CAPTION))
        ImageDraw.Draw(whole).text((place[0] + 4, place[1] + 6), file.stem)
        whole.paste(picture.resize((width, height), Image.Resampling.LANCZOS), (place[0], place[1] + CAPTION))
    return whole


def small(content: bytes, path: Path) -> None:
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    picture.thumbnail((10**4, GUIDE_HEIGHT), Image.Resampling.LANCZOS)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, "WEBP", quality=80, method=6)


if __name__ == "__main__":
    main()
