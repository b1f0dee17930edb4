"""The page as people meet it, in Chromium: pictures, the camera, and what is refused."""

import contextlib

import numpy as np
import pytest
from PIL import Image

from seamline import Classifier, likeness
from seamline.similar import ALIKE
from tests import golden
from tests.browsing import (
    CAMERA,
    CHROMIUM,
    FLAGS,
    REFERENCE,
    answer,
    encoded,
    filmed,
    give,
    needs_chromium,
    serving,
    state,
    until,
)
from tests.conftest import ROOT

pytest_plugins = ["tests.browsing"]
pytestmark = [pytest.mark.slow, needs_chromium]
EVERYWHERE = "0.0.0.0"  # noqa: S104  only so is a name of another machine answered
NONE, DENIED = ("--no-sandbox",), ("--no-sandbox", CAMERA[0])


def test_sample_is_named_with_what_the_model_saw(visit, address):
    page = visit(address)

    page.click('[data-sample="bag.png"]')

    assert answer(page) == "Bag"
    assert page.locator("#bars li").count() == 3
    drawn = page.evaluate(
        "Array.from(document.getElementById('seen').getContext('2d').getImageData(0, 0, 28, 28).data)"
    )
    assert np.array_equal(np.array(drawn).reshape(28, 28, 4)[..., 0], np.asarray(Image.open(ROOT / "examples/bag.png")))
    page.click("#again")
    assert page.inner_text("#named") == "Show me a garment"


def test_keyboard_alone_is_enough(visit, address):
    page = visit(address)

    page.focus('[data-sample="trouser.png"]')
    page.keyboard.press("Enter")

    assert answer(page) == "Trouser"


FOCUSED = "document.activeElement.id"


def test_keyboard_is_led_on_when_its_button_goes(visit, address):
    page = visit(address, permissions=["camera"])
    page.focus("#camera")
    page.keyboard.press("Enter")
    filmed(page)
    assert page.evaluate(FOCUSED) == "capture"

    page.keyboard.press("Enter")
    answer(page)
    assert page.evaluate(FOCUSED) == "answer"

    give(page, "x.png", b"no picture")
    state(page)
    page.focus("#notice-close")
    page.keyboard.press("Enter")
    assert page.evaluate(FOCUSED) == "answer"


def test_camera_is_shown_and_its_picture_answered(visit, address):
    page = visit(address, permissions=["camera"])

    page.click("#camera")
    filmed(page)
    page.click("#capture")

    answer(page)
    assert page.is_visible("#still")
    assert page.evaluate("document.getElementById('video').srcObject") is None  # let go


def test_camera_that_is_wanted_from_further_down_comes_into_view(visit, address):
    page = visit(address, permissions=["camera"], viewport={"width": 390, "height": 844})
    page.evaluate("scrollTo(0, document.getElementById('camera').getBoundingClientRect().top + scrollY)")
    page.evaluate("document.getElementById('camera').click()")

    filmed(page)

    until(page, "Math.abs(document.getElementById('frame').getBoundingClientRect().top) < 2")
    assert page.evaluate(FOCUSED) == "capture"


TAPPED_TWICE = """() => {
  const [capture, video] = ["capture", "video"].map((id) => document.getElementById(id));
  capture.click();
  capture.click();
  return video.paused;
}"""


def test_camera_that_is_tapped_twice_answers_once(visit, address):
    page = visit(address, permissions=["camera"])
    page.click("#camera")
    filmed(page)

    assert page.evaluate(TAPPED_TWICE)

    answer(page)
    assert page.evaluate("document.body.dataset.answer") == "1"
    assert page.evaluate("document.getElementById('still').width") > 0


def test_camera_that_sees_nothing_but_ground_goes_on_and_may_be_asked_again(playwright, visit, address, tmp_path):
    film = tmp_path / "film.mjpeg"
    film.write_bytes(encoded(Image.new("RGB", (640, 480), "white"), "JPEG") * 30)
    flags = [*FLAGS, *CAMERA, f"--use-file-for-fake-video-capture={film}"]
    with contextlib.closing(playwright.chromium.launch(executable_path=CHROMIUM, args=flags)) as browser:
        page = visit(address, browser=browser, permissions=["camera"])
        page.click("#camera")
        filmed(page)
        for _ in range(2):
            assert page.evaluate(TAPPED_TWICE), "its picture stands still while it is looked at"

            assert state(page) == "no-garment"
            until(page, "!document.getElementById('video').paused")
            assert page.is_visible("#video")
            page.click("#notice-close")
        page.context.close()


SAMPLE_FIRST = """() => {
  const video = document.getElementById("video");
  video.play = () => {
    const playing = HTMLMediaElement.prototype.play.call(video);
    document.querySelector('[data-sample="bag.png"]').click();
    return playing;
  };
}"""


def test_sample_that_is_taken_while_the_camera_starts_leaves_it_off(visit, address):
    page = visit(address, permissions=["camera"])
    page.evaluate(SAMPLE_FIRST)

    page.click("#camera")

    assert answer(page) == "Bag"
    until(page, "!document.getElementById('camera').hasAttribute('aria-disabled')")
    assert page.is_visible("#picture")
    assert page.is_hidden("#capture")
    assert page.is_visible("#camera")


def test_camera_that_is_unplugged_is_said_and_upload_remains(visit, address):
    """The browser's own event of a track that ended: a fake camera has no cable."""
    page = visit(address, permissions=["camera"])
    page.click("#camera")
    filmed(page)

    page.evaluate("document.getElementById('video').srcObject.getVideoTracks()[0].dispatchEvent(new Event('ended'))")

    assert state(page) == "camera-unplugged"
    give(page, "bag.png", (ROOT / "examples/bag.png").read_bytes())
    assert answer(page) == "Bag"


@pytest.mark.parametrize(
    ("flags", "said"),
    [pytest.param(NONE, "camera-none", id="none"), pytest.param(DENIED, "camera-refused", id="refused")],
)
def test_no_camera_or_a_refused_one_is_said_and_upload_remains(playwright, visit, address, flags, said):
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(flags))
    with contextlib.closing(browser):
        page = visit(address, browser=browser)
        page.click("#camera")

        assert state(page) == said
        give(page, "bag.png", (ROOT / "examples/bag.png").read_bytes())
        assert answer(page) == "Bag"
        page.context.close()


def test_insecure_address_is_said_and_the_page_works(visit, whole_page):
    with serving("--page", whole_page, "--bundle", REFERENCE, "--port", 0, "--host", EVERYWHERE) as (found, _):
        page = visit(f"http://shop.test:{found.rstrip('/').rpartition(':')[2]}/")
        page.click("#camera")

        assert state(page) == "camera-insecure"
        page.click('[data-sample="bag.png"]')
        assert answer(page) == "Bag"


BOMB = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (100_000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0" + b"\0" * 40


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"<html>", "picture-other", id="no picture"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "picture-other", id="a drawing"),
        pytest.param((ROOT / "examples/bag.png").read_bytes()[:60], "picture-broken", id="cut short"),
        pytest.param(b"", "picture-empty", id="empty"),
        pytest.param(BOMB, "picture-large", id="ten thousand million pixels"),
        pytest.param(b"\xff\xd8\xff" + b"\0" * 33 * 2**20, "picture-large", id="33 MB"),
        pytest.param(encoded(Image.new("RGB", (99, 99), "white")), "no-garment", id="nothing but ground"),
    ],
)
def test_file_that_is_no_picture_is_said_and_the_next_is_answered(visit, address, content, said, tmp_path):
    page = visit(address)

    (tmp_path / "file.png").write_bytes(content)
    page.set_input_files("#file", tmp_path / "file.png")

    assert state(page) == said
    page.click('[data-sample="bag.png"]')
    assert answer(page) == "Bag"
    assert page.is_hidden("#notice")


def test_rotated_and_huge_pictures_are_answered(visit, address):
    """B4: EXIF 6 lies on its side; 40 million pixels are shrunk before they are read."""
    garment = Image.open(ROOT / "examples/trouser.png").convert("RGB").resize((560, 560))
    shot = Image.new("RGB", (800, 800), "black")
    shot.paste(garment, (120, 120))
    tag = Image.Exif()
    tag[0x0112] = 6
    lying = encoded(shot.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=tag)
    page = visit(address)

    for content in (lying, encoded(shot.resize((6400, 6400)), "JPEG")):
        give(page, "x.jpg", content, "image/jpeg")
        assert answer(page) == "Trouser"
        page.click("#again")


def test_many_taps_show_the_last_picture(visit, address):
    page = visit(address)

    page.evaluate("""for (const name of ['bag.png', 'coat.png', 'bag.png', 'bag.png', 'sandal.png', 'trouser.png'])
      document.querySelector(`[data-sample="${name}"]`).click()""")

    page.wait_for_selector('body[data-answer="6"]')
    assert page.inner_text("#named") == "Trouser"


def test_stock_shows_nothing_but_what_is_alike(visit, whole_page, tmp_path):
    classifier = Classifier(REFERENCE)
    images = golden.garments()
    kinds = [classifier.classes[best] for best in classifier.probabilities(images).argmax(axis=1)]
    likeness.write(tmp_path / "shop.safetensors", likeness.Index(kinds, classifier.embed(images), classifier.digest))
    cosines = classifier.embed(images) @ classifier.embed(images[kinds.index("Sneaker")][None])[0]
    alike = np.sort(cosines[cosines >= ALIKE])[::-1][:4]
    with serving(
        "--page", whole_page, "--bundle", REFERENCE, "--port", 0, "--index", tmp_path / "shop.safetensors"
    ) as (at, _):
        page = visit(at)
        page.focus('[data-sample="sneaker.png"]')
        page.keyboard.press("Enter")
        answer(page)

        assert page.evaluate(FOCUSED) == "answer"  # the samples have gone
        assert 0 < len(alike) < 4
        assert page.locator("#stock .name").all_inner_texts() == ["Sneaker"] * len(alike)


def test_hostile_names_are_text(visit, whole_page, tmp_path):
    """B3: of the file, and of what is in stock."""
    hostile = "<img src=x onerror=document.body.dataset.hit=1>.png"
    classifier = Classifier(REFERENCE)
    images = golden.garments()[:5]
    names = [hostile, *(f"{k}.png" for k in range(4))]
    likeness.write(tmp_path / "shop.safetensors", likeness.Index(names, classifier.embed(images), classifier.digest))
    with serving(
        "--page", whole_page, "--bundle", REFERENCE, "--port", 0, "--index", tmp_path / "shop.safetensors"
    ) as (at, _):
        page = visit(at)
        give(page, hostile, encoded(Image.fromarray(images[0])))
        answer(page)

        assert page.locator("#stock .name").first.inner_text() == hostile.removesuffix(".png")
        assert page.locator("#stock .how").first.inner_text() == "over 99 % alike"
        assert page.get_attribute("body", "data-hit") is None
