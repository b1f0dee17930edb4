"""A correction on its whole way: the page in Chromium, the page's server, a real service, a file in the folder."""

import base64
import hashlib

import pytest

from seamline import Classifier, likeness
from tests import golden
from tests.browsing import REFERENCE, answer, filmed, give, needs_chromium, serving, state, until
from tests.conftest import ROOT
from tests.serving import running

pytest_plugins = ["tests.browsing"]
pytestmark = [pytest.mark.slow, needs_chromium]
BAG = ROOT / "examples/bag.png"
TOKEN = {"SEAMLINE_TOKEN": "t"}


def test_correction_on_the_page_arrives_in_the_folder(visit, whole_page, tmp_path):
    with (
        running("--model", REFERENCE, "--corrections", tmp_path, **TOKEN) as service,
        serving(*("--page", whole_page, "--bundle", REFERENCE, "--port", 0, "--service", service.url), **TOKEN) as (
            address,
            _,
        ),
    ):
        page = visit(address)
        page.set_input_files("#file", BAG)
        answer(page)
        page.click("#wrong")
        give(page, "x.png", b"no picture")
        state(page)
        assert not page.is_visible("#kinds"), "one thing is shown at a time"
        page.click("#notice-close")
        page.click("#wrong")
        page.click("#kinds button:has-text('Ankle boot')")
        until(page, "document.getElementById('thanks').textContent === 'Thank you. Kept as: Ankle boot.'")
        counted = service.get("/metrics", Authorization="Bearer t").text

    assert 'route="/v1/corrections",status="201"' in counted
    assert 'status="4' not in counted, "to find out that corrections are taken is no error"
    sent = BAG.read_bytes()
    kept = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert kept == {f"ankle-boot/{hashlib.sha256(sent).hexdigest()}.png": sent}


def test_correction_is_offered_while_the_service_takes_them(visit, whole_page, collector):
    service = f"http://127.0.0.1:{collector.server_address[1]}"
    with serving("--page", whole_page, "--bundle", REFERENCE, "--port", 0, "--service", service) as (found, _):
        page = visit(found)
        give(page, "<b>.png", (ROOT / "examples/bag.png").read_bytes())
        answer(page)
        page.click("#wrong")
        page.click("#kinds button:has-text('Sandal')")

        until(page, "document.getElementById('thanks').textContent === 'Thank you. Kept as: Sandal.'")
        kind, body, _ = [one for one in collector.kept if one[1]][-1]
        assert kind.startswith("multipart/form-data; boundary=")
        assert b'name="kind"\r\n\r\nSandal\r\n' in body
        assert b'name="picture"; filename="picture"' in body
        assert (ROOT / "examples/bag.png").read_bytes() in body

        for status, said in ((503, "lost"), (429, "enough"), (507, "full")):
            collector.status = status
            page.click("#wrong")
            page.click("#kinds button:has-text('Coat')")
            page.wait_for_selector(f"#notice[data-state='correction-{said}']")


WATCHED = """async (everyMs) => {
  const { Service } = await import(location.origin + "/service.js");
  const said = [];
  new Service((taking) => said.push(taking)).watch(everyMs);
  await new Promise((done) => setTimeout(done, 20 * everyMs));
  return said;
}"""


def test_asking_whether_corrections_are_taken_sends_none(visit, whole_page, collector):
    service = f"http://127.0.0.1:{collector.server_address[1]}"
    with serving("--page", whole_page, "--bundle", REFERENCE, "--port", 0, "--service", service) as (found, _):
        page = visit(found)
        page.wait_for_selector("#correction:not([hidden])", state="attached")
        before = len(collector.kept)

        assert page.evaluate(WATCHED, 150) == [True]

        assert len(collector.kept) == before


def test_correction_sends_the_picture_whose_answer_is_shown(visit, whole_page, collector):
    """A second picture was taken, and is not answered yet: the first one's answer is seen, and corrected."""
    service = f"http://127.0.0.1:{collector.server_address[1]}"
    with serving("--page", whole_page, "--bundle", REFERENCE, "--port", 0, "--service", service) as (found, _):
        page = visit(found, permissions=["camera"])
        page.wait_for_selector("#correction:not([hidden])", state="attached")
        for _ in range(2):
            page.click("#camera")
            filmed(page)
            page.click("#capture")
            answer(page)
            page.evaluate("void (seamline.thinker.answer = () => new Promise(() => undefined))")  # from now on
            page.evaluate("globalThis.first ??= document.getElementById('still')")
        page.click("#wrong")
        page.click("#kinds button:has-text('Coat')")

        until(page, "document.getElementById('thanks').textContent === 'Thank you. Kept as: Coat.'")
        shown = page.evaluate("first.toDataURL('image/jpeg', 0.92)").partition(",")[2]
        assert base64.b64decode(shown) in collector.kept[-1][1]
        assert page.evaluate("first.isConnected")


def test_correction_that_the_service_is_gone_for_is_said_plainly_and_offered_no_more(visit, whole_page, collector):
    service = f"http://127.0.0.1:{collector.server_address[1]}"
    with serving("--page", whole_page, "--bundle", REFERENCE, "--port", 0, "--service", service) as (found, _):
        page = visit(found)
        page.click('[data-sample="bag.png"]')
        answer(page)
        page.click("#wrong")
        collector.shutdown()
        collector.server_close()

        page.evaluate(
            "[...document.querySelectorAll('#kinds button')].find((one) => one.textContent === 'Coat').click()"
        )

        assert state(page) == "correction-lost"
        assert page.is_hidden("#notice-detail")
        page.wait_for_selector("#correction", state="hidden")


def test_offline_only_what_works_is_offered(visit, whole_page, collector, tmp_path):
    service, images = f"http://127.0.0.1:{collector.server_address[1]}", golden.garments()[:4]
    classifier = Classifier(REFERENCE)
    names = [f"{k}.png" for k in range(4)]
    likeness.write(tmp_path / "shop.safetensors", likeness.Index(names, classifier.embed(images), classifier.digest))
    index = ("--index", tmp_path / "shop.safetensors")
    with serving("--page", whole_page, "--bundle", REFERENCE, "--port", 0, "--service", service, *index) as (found, _):
        page = visit(found)
        page.set_input_files("#file", BAG)
        answer(page)
        page.wait_for_selector("#wrong")
        assert page.is_hidden("#like .hint")

        page.context.set_offline(True)

        page.wait_for_selector("#wrong", state="hidden")
        assert page.inner_text("#offline") == "Offline: go on, garments are named"
        assert page.is_visible("#like .hint")
        page.context.set_offline(False)
        page.wait_for_selector("#wrong")
        assert page.is_hidden("#offline")


def test_without_a_service_no_correction_is_offered(visit, address):
    page = visit(address)
    page.click('[data-sample="bag.png"]')
    answer(page)

    assert page.is_hidden("#correction")
