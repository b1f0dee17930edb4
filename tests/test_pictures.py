import io

import numpy as np
import pytest
from PIL import Image

from seamline import decoding, pictures
from seamline.decoding import Picture
from tests.conftest import ROOT
from tests.test_foreground import shirt

EXAMPLES = sorted((ROOT / "examples").glob("*.png"))
LARGE = 12  # dots for a pixel


def band(number):
    image = np.zeros((28, 28), np.uint8)
    image[3 * number : 3 * number + 3] = 200
    return image


def enlarged(image):
    """A picture of Fashion-MNIST, large, and not in the middle of a larger black one."""
    grey = np.zeros((500, 400), np.uint8)
    grey[80 : 80 + 28 * LARGE, 30 : 30 + 28 * LARGE] = np.kron(image, np.ones((LARGE, LARGE), np.uint8))
    return grey


def decoded(grey, alpha=None):
    return Picture(Image.fromarray(grey).convert("RGB"), None if alpha is None else Image.fromarray(alpha))


def product(mode, ground, garment):
    picture = Image.new(mode, (300, 200), ground)
    picture.paste(garment, (100, 20, 160, 180))
    return picture


def test_a_picture_of_fashion_mnist_is_taken_as_it_is(tmp_path):
    Image.fromarray(band(3)).save(tmp_path / "own.png")

    np.testing.assert_array_equal(pictures.read(tmp_path / "own.png"), band(3))


@pytest.mark.parametrize("unlike", ["bright corner", "one red dot"])
def test_a_small_picture_that_is_not_grey_on_black_is_none_of_fashion_mnist(unlike):
    colours = np.stack([band(3)] * 3, axis=-1)
    colours[(0, 0) if unlike == "bright corner" else (10, 10, slice(1))] = 200 if unlike == "bright corner" else 255

    views = pictures.views(Picture(Image.fromarray(colours), None))

    assert not np.array_equal(views[0], np.asarray(Image.fromarray(colours).convert("L")))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    ("shot", "levels"),
    [
        pytest.param(lambda grey: 255 - grey, 1, id="on white"),
        pytest.param(lambda grey: grey, 1, id="on black"),
        pytest.param(lambda grey: np.where(grey, 255 - grey, 225).astype(np.uint8), 6, id="on light grey"),
    ],
)
def test_product_shot_becomes_what_fashion_mnist_made_of_it(path, shot, levels):
    """Light grey hides the garment's own light greys; centring to the wrong side of an odd number costs 15 … 40."""
    original = np.asarray(Image.open(path))

    (found,) = pictures.views(decoded(shot(enlarged(original))))

    assert np.abs(found.astype(int) - original).mean() < levels


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_what_is_transparent_is_the_outline_whatever_lies_under_it(path):
    original = np.asarray(Image.open(path))
    grey = enlarged(original)
    alpha = (grey > 0).astype(np.uint8) * np.uint8(255)
    under = np.random.default_rng(1).integers(0, 256, grey.shape, dtype=np.uint8)

    (found,) = pictures.views(decoded(np.where(alpha, 255 - grey, under).astype(np.uint8), alpha))

    assert np.abs(found.astype(int) - original).mean() < 0.1


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(product("RGB", (255, 255, 255), (40, 60, 30)), id="colour"),
        pytest.param(product("RGB", (0, 0, 0), (140, 160, 130)), id="on black"),
        pytest.param(product("L", 255, 50), id="grey"),
        pytest.param(product("RGBA", (0, 0, 0, 0), (40, 60, 30, 255)), id="transparent ground"),
        pytest.param(product("RGB", (255, 255, 255), (40, 60, 30)).quantize(8), id="palette"),
        pytest.param(product("CMYK", (0, 0, 0, 0), (200, 200, 200, 0)), id="CMYK"),
    ],
)
def test_a_product_shot_becomes_bright_on_black_and_fills_the_longest_edge(tmp_path, picture):
    path = tmp_path / ("shot.jpg" if picture.mode == "CMYK" else "shot.png")
    picture.save(path)

    image = pictures.read(path)

    assert image.shape == (28, 28)
    assert image.dtype == np.uint8
    assert image[:, 0].max() <= 10, "the ground is black"
    assert image[14, 14] > 60, "the garment is bright"
    assert (image[[0, -1]] > 60).any(axis=1).all(), "it reaches from top to bottom"


def test_product_shot_has_one_view_and_a_photograph_three_widths_and_their_mirror_images():
    picture, _ = shirt()

    views = pictures.views(Picture(picture, None))

    assert (views.shape, views.dtype) == ((6, 28, 28), np.uint8)
    np.testing.assert_array_equal(views[3:], views[:3, :, ::-1])
    widths = [(view > 0).any(axis=0).sum() for view in views[:3]]
    heights = [(view > 0).any(axis=1).sum() for view in views[:3]]
    shares = np.array(widths) / heights / np.array(pictures.NARROWER)
    assert np.ptp(shares) / shares.mean() < 0.1
    assert len(pictures.views(decoded(255 - enlarged(band(3))))) == 1


def test_photographed_garment_of_white_does_not_vanish():
    picture, _ = shirt(colour=(255, 255, 255), ground=(120, 90, 60), light=0.05)

    first = pictures.views(Picture(picture, None))[0]

    assert pictures.DARKEST <= first[14, 14] < 2 * pictures.DARKEST
    assert first[0, 0] == 0


def test_read_gives_the_first_of_the_views_of_a_path_and_of_bytes(tmp_path):
    picture, _ = shirt()
    picture.save(tmp_path / "photograph.png")
    content = (tmp_path / "photograph.png").read_bytes()

    views = pictures.from_picture(tmp_path / "photograph.png")

    np.testing.assert_array_equal(pictures.from_picture(content), views)
    np.testing.assert_array_equal(pictures.read(tmp_path / "photograph.png"), views[0])


@pytest.mark.parametrize(
    "content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 30], ids=["empty", "text", "torn"]
)
def test_what_is_no_picture_is_refused(tmp_path, content):
    (tmp_path / "shot.png").write_bytes(content)

    with pytest.raises(ValueError, match=r"shot\.png: not a picture that can be read"):
        pictures.read(tmp_path / "shot.png")
    with pytest.raises(ValueError, match="^not a picture that can be read"):
        pictures.from_picture(content)


@pytest.mark.parametrize("colour", ["white", "black", "grey", "red"])
@pytest.mark.parametrize("size", [(50, 50), (28, 29), (1, 1), (300, 2)], ids=str)
def test_one_colour_is_no_garment(colour, size):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")

    with pytest.raises(ValueError, match="^The picture shows one colour and no garment"):
        pictures.from_picture(file.getvalue())


def test_picture_that_is_transparent_altogether_is_refused():
    with pytest.raises(ValueError, match="shows one colour and no garment"):
        pictures.views(decoded(enlarged(band(3)), np.zeros((500, 400), np.uint8)))


@pytest.mark.parametrize(("limit", "what"), [("LARGEST_BYTES", "bytes"), ("LARGEST_PIXELS", "pixels")])
def test_too_large_a_picture_is_refused(tmp_path, monkeypatch, limit, what):
    Image.new("L", (60, 60), 255).save(tmp_path / "large.png")
    monkeypatch.setattr(decoding, limit, 20)

    with pytest.raises(ValueError, match=f"expected at most 20 {what}"):
        pictures.read(tmp_path / "large.png")
