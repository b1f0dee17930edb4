import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tasks import idx
from tasks.errors import DataError

HEADER_BYTES = 16  # of a file of images


@given(array=arrays(np.uint8, array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)))
def test_parse_gives_back_what_was_written(idx_bytes, array):
    parsed = idx.parse(idx_bytes(array))

    assert parsed.dtype == np.uint8
    assert parsed.shape == array.shape
    assert np.array_equal(parsed, array)


def test_parse_known_answer():
    content = bytes.fromhex("00 00 08 02  00 00 00 02  00 00 00 03  00 01 02 fd fe ff")

    assert idx.parse(content).tolist() == [[0, 1, 2], [253, 254, 255]]


def test_parse_is_read_only(idx_bytes):
    with pytest.raises(ValueError, match="read-only"):
        idx.parse(idx_bytes(np.zeros(3, np.uint8)))[0] = 1


@pytest.mark.parametrize("length", range(HEADER_BYTES + 24))
def test_parse_refuses_a_file_cut_at_any_byte(idx_bytes, length):
    content = idx_bytes(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))

    with pytest.raises(ValueError, match=r"^Expected .*\. Received .*\.$"):
        idx.parse(content[:length])


def test_parse_refuses_a_byte_too_many(idx_bytes):
    with pytest.raises(ValueError, match=r"Expected 10 bytes for shape \(2,\)\. Received 11\."):
        idx.parse(idx_bytes(np.zeros(2, np.uint8)) + b"\0")


@pytest.mark.parametrize("shape", [pytest.param((2, 3, 4), id="images"), pytest.param((0, 28, 28), id="no images")])
@pytest.mark.parametrize("position", range(HEADER_BYTES))
def test_parse_refuses_or_is_consistent_whatever_a_header_byte_says(idx_bytes, position, shape):
    content = idx_bytes(np.zeros(shape, np.uint8))
    for value in set(range(256)) - {content[position]}:
        broken = content[:position] + bytes([value]) + content[position + 1 :]
        try:
            array = idx.parse(broken)
        except ValueError:
            continue
        start = 4 + 4 * broken[3]
        assert broken[:3] == b"\0\0\x08"
        assert array.shape == struct.unpack(f">{broken[3]}I", broken[4:start])
        assert array.tobytes() == broken[start:]


@given(tail=st.binary(max_size=300))
def test_parse_knows_no_error_but_value_error(tail):
    try:
        array = idx.parse(b"\0\0\x08" + tail)
    except ValueError:
        return
    assert array.dtype == np.uint8


@pytest.mark.parametrize(
    ("header", "message"),
    [
        pytest.param("", "two zero bytes first.*Received nothing", id="empty"),
        pytest.param("1f8b0808", "two zero bytes first.*Received 1f8b0808", id="still gzipped"),
        pytest.param("00000d01 00000000", "unsigned bytes.*Received type 13, 1", id="float32"),
        pytest.param("00000901 00000000", "unsigned bytes.*Received type 9, 1", id="signed bytes"),
        pytest.param("00000800", "1 dimension or more.*Received type 8, 0", id="no dimensions"),
        pytest.param("00000803 00000001", "Expected 16 header bytes. Received 8", id="header cut"),
        pytest.param(
            "00000803" + 12 * "ff", "Expected 79,228,162,458,924,105,385,300,197,391 bytes", id="sizes that overflow"
        ),
        pytest.param("00000841" + 65 * "00000001" + "07", "dimension", id="more dimensions than numpy has"),
    ],
)
def test_parse_refuses(header, message):
    with pytest.raises(ValueError, match=message):
        idx.parse(bytes.fromhex(header))


def test_read_names_the_broken_file_and_the_remedy(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(b"\0\0\x08\x01\0\0\0\x05abc")

    with pytest.raises(DataError, match=r"train-images-idx3-ubyte is broken: Expected 13 .*`dvc repro ingest`\.$"):
        idx.read(path)


@pytest.mark.parametrize("name", ["train", "t10k"])
def test_read_split_has_the_images_and_labels_of_that_name(tmp_path, garments, write_raw, name):
    splits = {"train": garments(2, 1), "t10k": garments(1, 2)}
    write_raw(tmp_path, splits["train"], splits["t10k"])

    split = idx.read_split(tmp_path, name)

    assert np.array_equal(split.images, splits[name].images)
    assert np.array_equal(split.labels, splits[name].labels)
