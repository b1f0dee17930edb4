"""One visitor after the other: each is forgotten, whatever stayed open meanwhile."""

import pytest

from tests.browsing import answer, needs_chromium, until
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


def test_nothing_of_a_picture_is_stored(visit, address):
    page = visit(address)
    page.click('[data-sample="bag.png"]')
    answer(page)

    stored = page.evaluate("""async () => [
      localStorage.length + sessionStorage.length, document.cookie, (await indexedDB.databases()).length,
      (await caches.keys()).filter((name) => !/^seamline-(page|bundle)-/.test(name))]""")
    assert stored == [0, "", 0, []]
