"""How the page looks and speaks: accessible, on every screen, with a way on in every state."""

import json
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from benchmarks.kiosk_states import NOTICES, SIZES, STATES, bring, shop
from seamline import Classifier
from tests.browsing import REFERENCE, answer, needs_chromium, serving
from tests.conftest import ROOT

pytest_plugins = ["tests.browsing"]
pytestmark = [pytest.mark.slow, needs_chromium]


LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RULES = {
    "light": {"type": "tag", "values": LEVELS},
    "dark": {"type": "rule", "values": ["color-contrast"]},  # nothing but colours differ
}
HIDDEN = """() => {
  const within = (one, box) => one.left >= box.left - 1 && one.top >= box.top - 1 && one.right <= box.right + 1 && one.bottom <= box.bottom + 1;
  const shown = (selector) => [...document.querySelectorAll(selector)].filter((one) => one.checkVisibility());
  const outer = document.querySelector("dialog[open]") ?? document;
  scrollTo(0, 0);
  const view = { left: 0, top: 0, right: innerWidth, bottom: innerHeight };
  const outside = shown(".primary").filter((one) => outer.contains(one) && !within(one.getBoundingClientRect(), view));
  const parent = (one) => one.closest(".controls, .notice, .more")?.getBoundingClientRect();
  const protruding = shown("button").filter((one) => parent(one) && !within(one.getBoundingClientRect(), parent(one)));
  return [...outside, ...protruding].map((one) => one.textContent);
}"""  # buttons that are not where a person sees them
SCROLLS = "[document.documentElement.scrollWidth > innerWidth, document.documentElement.scrollHeight > innerHeight]"


@pytest.fixture(scope="module")
def port(whole_page, tmp_path_factory):
    """Of a page with everything that a shop may have."""
    with serving("--page", whole_page, "--bundle", REFERENCE, "--port", 0, *shop(tmp_path_factory.mktemp("shop"))) as (
        found,
        _,
    ):
        yield urlsplit(found).port


@pytest.mark.parametrize("name", STATES)
def test_state_is_accessible_and_nothing_of_it_is_out_of_sight(visit, port, axe, name):
    """WCAG 2.2 AA in every size, light and dark; on a telephone alone a person scrolls, and nowhere sideways."""
    page = visit(
        "about:blank",
        ready=False,
        viewport=dict(zip(("width", "height"), SIZES["kiosk"], strict=True)),
        permissions=["camera"],
        reduced_motion="reduce",
        service_workers="block",
    )
    bring(page, port, STATES[name])

    found, hidden, scrolls = [], {}, {}
    page.evaluate(f"{axe};0")
    for size in SIZES:
        page.set_viewport_size(dict(zip(("width", "height"), SIZES[size], strict=True)))
        for scheme, rules in RULES.items():
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            broken = page.evaluate("(rules) => axe.run({ runOnly: rules })", rules)["violations"]
            found += [(scheme, size, rule["id"], [node["html"] for node in rule["nodes"]]) for rule in broken]
        hidden[size] = page.evaluate(HIDDEN)
        scrolls[size] = page.evaluate(SCROLLS)

    assert found == []
    assert hidden == {size: [] for size in SIZES}
    assert [size for size, (sideways, _) in scrolls.items() if sideways] == []
    assert [size for size, (_, down) in scrolls.items() if down and size != "telephone"] == []


def test_every_notice_is_among_the_states_that_are_looked_at(told):
    assert set(told) == set(NOTICES)


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


@pytest.fixture(scope="module")
def told():
    """What kiosk/states.js has a person told."""
    code = "import { names, told } from './states.js'; console.log(JSON.stringify(names.map((name) => [name, told(name)])))"
    command = ["node", "--input-type=module", "-e", code]
    done = subprocess.run(command, cwd=ROOT / "kiosk", capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def test_every_state_says_what_to_do(told):
    sources = "\n".join(path.read_text(encoding="utf-8") for path in Path(ROOT / "kiosk").glob("*.js"))

    assert [name for name, state in told.items() if not state["title"] or len(state["todo"]) < 20] == []
    assert [name for name in told if sources.count(f'"{name}"') + sources.count(f"{name}:") < 2] == []
