"""Every way to the page and around it, in Chromium: dropped, pasted, by keyboard; and names that nobody may run."""

import json

import onnx
import pytest

from seamline import bundle
from tasks import folders
from tasks.bundle import manifest_of
from tests.browsing import REFERENCE, answer, needs_chromium, serving, state, until
from tests.conftest import ROOT

pytest_plugins = ["tests.browsing"]
pytestmark = [pytest.mark.slow, needs_chromium]
BAG = ROOT / "examples/bag.png"
SAMPLE = '[data-sample="bag.png"]'


def drop(page, *files, **item):
    """As a person drags files, or a selection, from another window: the browser makes the events."""
    at = page.locator("#frame").bounding_box()
    data = {"items": [item] if item else [], "files": [str(file) for file in files], "dragOperationsMask": 1}
    chrome = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        place = {"x": at["x"] + 20, "y": at["y"] + 20}
        chrome.send("Input.dispatchDragEvent", {"type": kind, "data": data} | place)


def test_dropped_picture_is_answered_and_the_page_stays(visit, address):
    page = visit(address)

    drop(page, BAG)

    assert answer(page) == "Bag"
    assert page.is_visible("#picture")
    assert page.locator(".dropping").count() == 0
    assert page.url == address


def test_dropped_text_is_refused_and_the_next_picture_answered(visit, address, tmp_path):
    """A file of it, and a selection: that one is no file at all."""
    page = visit(address)
    (tmp_path / "letter.txt").write_text("Dear Seamline,", encoding="utf-8")

    drop(page, tmp_path / "letter.txt")

    assert state(page) == "picture-other"
    drop(page, mimeType="text/plain", data="Dear Seamline,")
    page.wait_for_selector("#notice[data-state='picture-none']")
    assert page.url == address
    drop(page, BAG)
    assert answer(page) == "Bag"
    assert page.is_hidden("#notice")


COPIED = """async () => {
  const picture = await (await fetch("samples/bag.png")).blob();
  await navigator.clipboard.write([new ClipboardItem({ "image/png": picture })]);
}"""


def test_pasted_picture_is_answered_and_pasted_text_changes_nothing(visit, address):
    page = visit(address, permissions=["clipboard-read", "clipboard-write"])
    page.evaluate(COPIED)

    page.keyboard.press("Control+v")

    assert answer(page) == "Bag"
    page.evaluate("navigator.clipboard.writeText('Dear Seamline,')")
    page.evaluate("addEventListener('paste', () => (globalThis.pasted = true))")
    page.keyboard.press("Control+v")
    until(page, "globalThis.pasted")
    assert page.get_attribute("body", "data-answer") == "1"
    assert page.is_hidden("#notice")


def walk(page, selector, key):
    """Presses `key` until the focus is there."""
    for _ in range(40):
        page.keyboard.press(key)
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"{key} never reaches {selector}")


def test_keyboard_alone_reaches_a_sample_its_answer_and_the_way_back(visit, address):
    page = visit(address)

    walk(page, SAMPLE, "Tab")
    page.keyboard.press("Space")
    assert answer(page) == "Bag"
    walk(page, "#again", "Shift+Tab")
    page.keyboard.press("Enter")

    page.wait_for_selector("body:not([data-answer])")
    assert page.is_hidden("#picture")
    assert page.evaluate("document.activeElement.id") == "camera"
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.matches('.skip')")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "answer"


HOSTILE = [f"<img src=x onerror=document.body.dataset.hit=1>{kind}" for kind in range(10)]


@pytest.fixture
def hostile_bundle(model_file, bundle_files, tmp_path):
    """Its classes are markup, in the model as in the manifest."""
    model = onnx.load(model_file)
    onnx.helper.set_model_props(model, {"classes": json.dumps(HOSTILE), "version": "0"})
    files = bundle_files() | {bundle.MODEL: model.SerializeToString()}
    del files[bundle.MANIFEST]
    files[bundle.MANIFEST] = manifest_of(1, {"classes": HOSTILE, "metrics": {}}, files)
    folders.fill(tmp_path / "bundle", files)
    return tmp_path / "bundle"


def test_hostile_classes_are_text(visit, whole_page, hostile_bundle, collector):
    """B3: in the answer, its bars, what is read aloud, the kinds to choose from and the thanks."""
    service = f"http://127.0.0.1:{collector.server_address[1]}"
    with serving("--page", whole_page, "--bundle", hostile_bundle, "--port", 0, "--service", service) as (found, _):
        page = visit(found)
        page.wait_for_selector("#correction:not([hidden])", state="attached")
        before = page.locator("img").count()

        page.click(SAMPLE)

        assert answer(page) in HOSTILE
        page.click("#wrong")
        assert page.locator("#kinds button").all_inner_texts() == HOSTILE
        page.locator("#kinds button").nth(3).click()
        until(page, "document.getElementById('thanks').textContent !== ''")
        for place in ("#bars .name >> nth=0", "#said", "#thanks"):
            assert "<img src=x onerror=" in page.locator(place).inner_text()
        assert page.locator("img").count() == before
        assert page.get_attribute("body", "data-hit") is None


def test_correction_that_the_service_refuses_is_said_and_the_answer_stays(visit, whole_page, collector):
    service = f"http://127.0.0.1:{collector.server_address[1]}"
    collector.status = 422
    with serving("--page", whole_page, "--bundle", REFERENCE, "--port", 0, "--service", service) as (
        found,
        _,
    ):
        page = visit(found)
        page.click(SAMPLE)
        answer(page)
        page.click("#wrong")

        page.click("#kinds button >> nth=0")

        assert state(page) == "correction-refused"
        assert page.inner_text("#thanks") == ""
        assert page.inner_text("#named") == "Bag"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("NotReadableError", "camera-busy", id="busy"),
        pytest.param("UnknownError", "camera-broken", id="broken"),
    ],
)
def test_camera_that_the_browser_refuses_is_said_and_asked_again(visit, address, name, said):
    """The browser's own error, but of our making: a fake camera serves any number of programs."""
    page = visit(address, permissions=["camera"])
    page.evaluate(
        """(name) => {
          const asked = navigator.mediaDevices.getUserMedia;
          navigator.mediaDevices.getUserMedia = async () => {
            navigator.mediaDevices.getUserMedia = asked; // another program has let it go
            throw new DOMException("", name);
          };
        }""",
        name,
    )
    page.click("#camera")
    assert state(page) == said
    assert page.is_hidden("#capture")

    page.click("#notice-action")

    page.wait_for_selector("#capture:not([hidden])")
    assert page.is_hidden("#notice")
