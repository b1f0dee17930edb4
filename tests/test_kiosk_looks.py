"""How the page looks and speaks: accessible, on every screen, with a way on in every state."""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seamline import Classifier
from tests.browsing import REFERENCE, answer, encoded, give, needs_chromium, state
from tests.conftest import ROOT

pytest_plugins = ["tests.browsing"]
pytestmark = [pytest.mark.slow, needs_chromium]


STATES = ["ready", "answer", "unknown", "notice", "attract"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_axe_finds_nothing_in_any_state(visit, address, axe, scheme, width):
    """WCAG 2.2 AA."""
    page = visit(
        f"{address}?idle=3600", color_scheme=scheme, viewport={"width": width, "height": 900}, reduced_motion="reduce"
    )
    found = {}
    for one in STATES:
        if one == "answer":
            page.click('[data-sample="bag.png"]')
            answer(page)
        if one == "unknown":
            noise = np.random.default_rng(1).integers(0, 256, (28, 28), dtype=np.uint8)
            noise[0, 0] = 0
            give(page, "noise.png", encoded(Image.fromarray(noise)))
            page.wait_for_selector("#answer.unknown")
        if one == "notice":
            give(page, "x.png", b"no picture")
            state(page)
        if one == "attract":
            page.evaluate("document.getElementById('attract').showModal()")
        page.evaluate(f"{axe};0")
        tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
        result = page.evaluate("(tags) => axe.run({ runOnly: tags })", tags)
        found[one] = [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in result["violations"]]

    assert found == {one: [] for one in STATES}


@pytest.mark.parametrize(("width", "height"), [(320, 640), (360, 740), (1080, 1920), (1440, 900), (3840, 2160)])
def test_page_fits_every_screen(visit, address, width, height):
    page = visit(address, viewport={"width": width, "height": height})
    page.click('[data-sample="bag.png"]')
    answer(page)

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    small = page.evaluate("""[...document.querySelectorAll('button')].filter((one) => one.offsetParent)
      .filter((one) => one.offsetHeight < 44 || one.offsetWidth < 44).map((one) => one.id)""")
    assert small == []


KIOSKS = [
    (800, 480),
    (1024, 600),
    (1024, 768),
    (1280, 1024),
    (1280, 720),
    (1280, 800),
    (1366, 768),
    (1920, 1080),
    (1080, 1920),
    (3840, 2160),
]
INSIDE = """() => {
  const inner = document.getElementById("invitation"), frame = document.getElementById("frame").getBoundingClientRect();
  const room = 2 + parseFloat(getComputedStyle(document.getElementById("frame"), "::after").top);
  return [...inner.children].filter((one) => getComputedStyle(one).display !== "none").every((one) => {
    const { top, bottom } = one.getBoundingClientRect();
    return top >= frame.top + room && bottom <= frame.bottom - room;
  });
}"""


@pytest.mark.parametrize(("width", "height"), KIOSKS)
def test_start_and_camera_fit_a_kiosk_without_scrolling(visit, address, width, height):
    page = visit(f"{address}?idle=3600", viewport={"width": width, "height": height}, permissions=["camera"])
    tall = "document.documentElement.scrollHeight"

    assert page.evaluate(tall) <= height
    assert page.evaluate(INSIDE)
    page.click("#camera")
    page.wait_for_selector("#capture")
    assert page.evaluate(tall) <= height


@pytest.mark.parametrize("width", [320, 360, 768, 1280, 2560, 3840])
def test_header_and_content_are_aligned_and_the_invitation_stays_in_its_frame(visit, address, width):
    page = visit(address, viewport={"width": width, "height": width * 9 // 16 if width > 1000 else 640})

    left = "(id) => document.querySelector(id).getBoundingClientRect().left"
    assert page.evaluate(left, ".brand") == page.evaluate(left, "#frame")
    assert page.evaluate(INSIDE)


def test_shelf_names_garments_as_the_model_does():
    page = (ROOT / "kiosk/index.html").read_text(encoding="utf-8")

    assert re.findall(r"data-sample=.*<span>(.*)</span></button>", page) == list(Classifier(REFERENCE).classes)


def test_every_state_says_what_to_do():
    code = "import { names, told } from './states.js'; console.log(JSON.stringify(names.map((name) => [name, told(name)])))"
    command = ["node", "--input-type=module", "-e", code]
    done = subprocess.run(command, cwd=ROOT / "kiosk", capture_output=True, text=True, check=True)
    states = dict(json.loads(done.stdout))
    sources = "\n".join(path.read_text(encoding="utf-8") for path in Path(ROOT / "kiosk").glob("*.js"))

    assert [name for name, told in states.items() if not told["title"] or len(told["todo"]) < 20] == []
    assert [name for name in states if sources.count(f'"{name}"') + sources.count(f"{name}:") < 2] == []
