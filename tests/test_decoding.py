"""Pictures from strangers: what people send is decoded right, and what was made to do harm is one line."""

import json
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.Image import Transpose

from seamline import containers, decoding, pictures
from tests import hostile
from tests.conftest import ROOT

MOST_SECONDS = 10  # for one file on a busy machine; the slowest takes 2 s
MOST_MIB = 640  # of the whole process
WHOLE = dict(hostile.ordinary())
STORED = {  # EXIF's number → how an upright picture must be turned so that the number turns it back
    1: None,
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_90,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_270,
}
bounded = settings(max_examples=150, deadline=5_000)  # ms: what hangs fails


def array(picture):
    return np.asarray(picture).astype(int)


def turned(picture, number, kind, **otherwise):
    stored = picture if STORED[number] is None else picture.transpose(STORED[number])
    return hostile.encoded(stored, kind, exif=hostile.exif(number), **otherwise)


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """What came of every hostile picture, read one after the other by a process of its own."""
    folder = tmp_path_factory.mktemp("hostile")
    names = hostile.write(folder)
    command = [sys.executable, "-W", "error", "-m", "tests.hostile", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"{lines[-1:]}: {done.stderr}"
    assert done.stderr == ""
    found = [line for line in lines if "came" in line]
    assert sorted(one["file"] for one in found) == sorted(names)
    return found


@pytest.mark.slow
def test_each_hostile_picture_is_an_array_or_one_line(judged):
    others = [one for one in judged if one["came"] != "uint8 (28, 28)" and not one["came"].startswith("refused: ")]
    longer = [one for one in judged if "\n" in one["came"] or len(one["came"]) > 500]
    unlike = [one for one in judged if one["file"].startswith("read-") and one["came"] != "uint8 (28, 28)"]
    unlike += [one for one in judged if one["file"].startswith("refused-") and one["came"] == "uint8 (28, 28)"]

    assert len(judged) >= 500
    assert (others, longer, unlike) == ([], [], [])


@pytest.mark.slow
def test_no_hostile_picture_costs_much_time_or_memory(judged):
    assert [(one["file"], one["s"]) for one in judged if one["s"] > MOST_SECONDS] == []
    assert max(one["peak_mib"] for one in judged) < MOST_MIB


@pytest.mark.parametrize("number", STORED)
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_picture_that_lies_on_its_side_is_the_upright_one(kind, number):
    upright = hostile.shot()

    content = turned(upright, number, kind, lossless=True)

    np.testing.assert_array_equal(decoding.decode(content).colours, upright)
    np.testing.assert_array_equal(pictures.from_picture(content)[0], pictures.from_picture(WHOLE["colour.png"])[0])


@pytest.mark.parametrize("number", STORED)
@pytest.mark.parametrize("size", [(96, 128), (1_200, 1_600)], ids=["small", "reduced"])
def test_photograph_that_lies_on_its_side_is_nearly_the_upright_one(number, size):
    upright = hostile.shot(size)
    wanted = upright.reduce(4) if max(size) > 2 * decoding.ENOUGH else upright

    found = decoding.decode(turned(upright, number, "JPEG", quality=95, subsampling=0)).colours

    assert found.size == wanted.size
    assert np.abs(array(found) - array(wanted)).mean() < 1
    assert np.abs(array(found) - array(hostile.shot(found.size))).mean() < 3


@pytest.mark.parametrize("name", [name for name in WHOLE if "clear" not in name and name != "turned.jpg"])
def test_every_mode_and_the_first_frame_show_the_same_garment(name):
    """Whatever the file has it in: one bit, 8 or 16, a palette, CMYK, frames."""
    found = decoding.decode(WHOLE[name])
    reference = hostile.shot().convert("1") if name == "one-bit.png" else hostile.shot()
    reference = reference.convert("L") if "grey" in name or name == "16-bit.png" else reference
    levels = 12 if name in {"palette.png", "still.gif", "animated.gif", "lossy.webp"} else 4

    assert found.colours.mode == "RGB"
    assert found.alpha is None
    assert np.abs(array(found.colours) - array(reference.convert("RGB"))).mean() < levels


def test_sixteen_bits_are_scaled_and_not_clipped():
    levels = np.arange(65_536, dtype=np.uint16).reshape(256, 256)

    found = array(decoding.decode(hostile.encoded(Image.fromarray(levels), "PNG")).colours)

    np.testing.assert_array_equal(found[..., 0], levels >> 8)
    np.testing.assert_array_equal(found[..., 0], found[..., 2])


@pytest.mark.parametrize("name", [name for name in WHOLE if "clear" in name])
def test_what_is_transparent_lies_on_white_and_is_known(name):
    found = decoding.decode(WHOLE[name])
    garment = array(hostile.shot().convert("L")) < 240

    np.testing.assert_array_equal(array(found.alpha), np.where(garment, 255, 0))
    assert (array(found.colours)[~garment] == 255).all()
    assert (
        np.abs(array(found.colours)[garment] - array(hostile.shot().convert(found.colours.mode))[garment]).mean() < 45
    )


def test_half_transparent_is_half_white():
    found = decoding.decode(hostile.encoded(Image.new("RGBA", (40, 30), (0, 100, 200, 128)), "PNG"))

    assert found.colours.getpixel((7, 7)) == (127, 177, 227)
    assert found.alpha.getpixel((7, 7)) == 128


def test_sixteen_bits_with_a_transparent_level():
    levels = np.full((30, 30), 40_000, np.uint16)
    levels[10:20] = 512
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    chunks = (b"tRNS", (512).to_bytes(2, "big")), (b"IDAT", hostile.zlib.compress(rows)), (b"IEND", b"")

    found = decoding.decode(hostile.png(hostile.header(30, 30, depth=16), *chunks))

    np.testing.assert_array_equal(array(found.alpha), np.where(levels == 512, 0, 255))
    np.testing.assert_array_equal(array(found.colours)[..., 1], np.where(levels == 512, 255, 40_000 >> 8))


@pytest.mark.parametrize(
    ("size", "block"),
    [((511, 300), 1), ((512, 9), 2), ((1_023, 600), 2), ((1_024, 1_024), 4), ((60, 6_000), 16), ((4_000, 3_000), 8)],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_large_picture_is_made_smaller_in_blocks_of_the_same_size_in_every_format(size, block, kind):
    picture = hostile.shot(size)

    found = decoding.decode(turned(picture, 1, kind)).colours

    assert found.size == tuple(-(-side // block) for side in size)
    assert max(found.size) <= 2 * decoding.ENOUGH
    assert np.abs(array(found) - array(picture.reduce(block))).mean() < 3


def test_nothing_of_the_file_but_its_picture_goes_on():
    found = decoding.decode(WHOLE["turned.jpg"]).colours

    assert found.info == {}
    assert dict(found.getexif()) == {}


def test_several_threads_decode_and_leave_the_warnings_as_they_were():
    content = hostile.encoded(hostile.shot(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    before = list(warnings.filters)

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(pictures.from_picture, [content] * 200))

    assert all(np.array_equal(one, found[0]) for one in found)
    assert warnings.filters == before


BOMB = hostile.png(hostile.header(30_000, 30_000), (b"IDAT", b""))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"%PDF-1.7", "not a picture that can be read: none of JPEG, PNG, WEBP, GIF", id="no picture"),
        pytest.param(WHOLE["colour.png"][:90], "not a picture that can be read: ", id="cut short"),
        pytest.param(hostile.png(hostile.header(64, 64)), "not a picture that can be read: none of", id="no rows"),
        pytest.param(BOMB, "expected at most 32,000,000 pixels, 80,000,000 in a plain JPEG.", id="bomb"),
    ],
)
def test_what_cannot_be_decoded_is_refused(content, said):
    with pytest.raises(ValueError, match=said):
        decoding.decode(content)


@pytest.mark.parametrize(("progressive", "refused"), [(False, False), (True, True)], ids=["baseline", "progressive"])
def test_telephone_makes_larger_pictures_than_others_may_be(progressive, refused):
    content = hostile.encoded(Image.new("L", (8_000, 6_000), 90), "JPEG", progressive=progressive, quality=20)

    if refused:
        with pytest.raises(
            ValueError, match="expected at most 32,000,000 pixels, 80,000,000 in a plain JPEG. Received 8,000 × 6,000"
        ):
            decoding.decode(content)
    else:
        assert decoding.decode(content).colours.size == (500, 375)


@pytest.mark.parametrize("name", [*WHOLE, "film"])
def test_ordinary_pictures_have_few_parts(monkeypatch, name):
    """Also with a film behind a telephone's picture, in which a scan's two bytes come by chance."""
    monkeypatch.setattr(containers, "MOST_PARTS", 40)

    containers.require_few_parts({**WHOLE, "film": WHOLE["progressive.jpg"] + b"\xff\xda\0\2" * 99}[name])


def test_scans_of_a_jpeg_are_counted():
    assert containers.require_few_parts(hostile.encoded(Image.new("RGB", (64, 64)), "JPEG")) == 1
    assert containers.require_few_parts(hostile.encoded(Image.new("RGB", (64, 64)), "JPEG", progressive=True)) > 1
    assert containers.require_few_parts(hostile.encoded(Image.new("RGB", (64, 64)), "PNG")) == 0


def test_many_parts_or_scans_are_refused():
    with pytest.raises(ValueError, match="expected at most 10,000 parts and 64 scans. Received more."):
        containers.require_few_parts(hostile.png(*[(b"abCd", b"")] * 10_001))
    with pytest.raises(ValueError, match="64 scans"):
        containers.require_few_parts(b"\xff\xd8" + b"\xff\xda\0\2" * 65)
    containers.require_few_parts(b"\xff\xd8" + b"\xff\xda\0\2" * 64 + b"\xff\xd9" + b"\xff\xda\0\2" * 99)


def refusal(content):
    """Why it is refused; nothing, if it is an array."""
    try:
        image = pictures.from_picture(content)[0]
    except ValueError as error:
        return str(error)
    assert (image.dtype, image.shape) == (np.uint8, (28, 28))
    return ""


STARTS = st.sampled_from(
    [b"", b"\xff\xd8\xff", hostile.PNG_START, b"GIF89a", b"RIFF\x99\0\0\0WEBPVP8 ", b"BM", b"II*\0"]
)


@bounded
@given(start=STARTS, content=st.binary(max_size=2_000))
def test_any_bytes_are_an_array_or_one_line(start, content):
    assert "\n" not in refusal(start + content)


@bounded
@given(
    name=st.sampled_from(sorted(WHOLE)),
    changes=st.lists(
        st.tuples(
            st.sampled_from(["flip", "delete", "insert"]),
            st.floats(0, 1, exclude_max=True),
            st.binary(min_size=1, max_size=9),
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_any_mutation_of_a_picture_is_an_array_or_one_line(name, changes):
    assert "\n" not in refusal(mutated(WHOLE[name], changes))


def mutated(content, changes):
    for kind, place, piece in changes:
        at = int(place * len(content))
        after = {"flip": at + len(piece), "delete": at + 8 * len(piece), "insert": at}[kind]
        content = content[:at] + (b"" if kind == "delete" else piece) + content[after:]
    return content
