"""One visitor after the other: each is forgotten, whatever stayed open meanwhile."""

import re
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from benchmarks.kiosk_states import shop
from tests.browsing import answer, encoded, give, kept, needs_chromium, serving, until
from tests.conftest import ROOT

pytest_plugins = ["tests.browsing"]
pytestmark = [pytest.mark.slow, needs_chromium]


def test_idle_page_forgets_the_picture_and_invites(visit, address):
    page = visit(f"{address}?idle=15")  # long enough that a busy machine gets its answer before
    page.click('[data-sample="bag.png"]')
    answer(page)

    page.wait_for_selector("#attract[open]")

    assert page.get_attribute("#picture", "src") is None
    assert page.get_attribute("body", "data-answer") is None
    page.keyboard.press("Enter")
    page.wait_for_selector("#attract", state="hidden")
    assert page.evaluate("document.activeElement.id") == "camera"


def test_picture_chosen_after_the_page_gave_up_is_answered_and_forgotten(visit, address):
    """A browser's own dialogue may stay open for longer than the page waits."""
    page = visit(f"{address}?idle=12")
    with page.expect_file_chooser() as chooser:
        page.click("#choose")
    page.wait_for_selector("#attract[open]")

    chooser.value.set_files(ROOT / "examples/bag.png")

    assert answer(page) == "Bag"
    assert page.is_hidden("#attract")
    page.wait_for_selector("#attract[open]")
    assert page.get_attribute("#picture", "src") is None


ASKING = """() => {
  const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  const person = new Promise((says) => (globalThis.granted = says));
  navigator.mediaDevices.getUserMedia = async (wishes) => (await person, globalThis.lent = await ask(wishes));
}"""  # the prompt, which a headless browser does not have


def test_camera_granted_after_the_page_gave_up_stays_off(visit, address):
    page = visit(f"{address}?idle=5", permissions=["camera"])
    page.evaluate(ASKING)
    page.click("#camera")
    page.wait_for_selector("#attract[open]")

    page.evaluate("granted()")

    until(page, "globalThis.lent?.getTracks().every((track) => track.readyState === 'ended') ?? false")
    assert page.evaluate("document.getElementById('video').srcObject") is None
    assert page.evaluate("document.getElementById('video').hidden")


STORED = """async (needles) => {
  const text = (bytes) => new TextDecoder("latin1").decode(Uint8Array.from(bytes));
  const bodies = {};
  for (const name of await caches.keys()) {
    const cache = await caches.open(name);
    for (const { url } of await cache.keys()) bodies[`${name} ${url}`] = text(new Uint8Array(await (await cache.match(url)).arrayBuffer()));
  }
  const others = [localStorage.length + sessionStorage.length, document.cookie, (await indexedDB.databases()).length];
  const files = await Array.fromAsync((await navigator.storage.getDirectory()).keys());
  return {
    others: [...others, files.length],
    urls: Object.keys(bodies),
    found: needles.map((needle) => Object.keys(bodies).filter((name) => bodies[name].includes(text(needle)))),
  };
}"""
SEEN = "Array.from(document.getElementById('seen').getContext('2d').getImageData(0, 0, 28, 28).data)"


def test_nothing_of_a_picture_is_stored(visit, whole_page, tmp_path):
    """A picture that there is nowhere else; with stock, which the page keeps. A sample that it keeps is found."""
    generator, sneaker = np.random.default_rng(5), Image.open(ROOT / "examples/sneaker.png").resize((280, 280))
    picture = encoded(Image.fromarray((np.asarray(sneaker) * generator.uniform(0.9, 1, (280, 280))).astype(np.uint8)))
    sample = (whole_page / "samples/bag.png").read_bytes()
    with serving("--page", whole_page, "--port", 0, *shop(tmp_path)) as (address, _):
        page = visit(f"http://127.0.0.1:{urlsplit(address).port}/")
        kept(page)
        before = page.evaluate(STORED, [])["urls"]
        give(page, "mine.png", picture)
        answer(page)
        page.wait_for_selector("#stock img")
        page.wait_for_load_state("networkidle")
        seen = page.evaluate(SEEN)[::4]
        middles = [list(one[len(one) // 2 :][:24]) for one in (picture, seen, sample)]
        after = page.evaluate(STORED, middles)

    assert after["others"] == [0, "", 0, 0]
    assert [url for url in after["urls"] if url not in before and "/stock/" not in url] == []
    assert [name for name in after["urls"] if not re.match("seamline-(page|bundle|stock)", name)] == []
    assert (after["found"][:2], len(after["found"][2]) >= 1) == ([[], []], True)
