"""Pictures prepared in JavaScript are those that Python prepares: X4 and B7 of docs/faults.md."""

import contextlib
import json
import shutil
import subprocess
import zlib

import numpy as np
import onnx
import pytest
from PIL import Image

from seamline import Classifier, containers, decoding
from tests import golden, hostile
from tests.browsing import needs_node
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """tests/golden.py's, as Python prepares them."""
    folder = tmp_path_factory.mktemp("golden")
    golden.write(folder)
    return folder


@pytest.fixture(scope="module")
def told(cases):
    return json.loads((cases / "cases.json").read_text(encoding="utf-8"))


def compared(kiosk, cases):
    command = ["node", str(ROOT / "tests/contract.mjs"), str(kiosk), str(cases)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_golden_cases_are_many_and_of_every_sort(told):
    kinds = [case["kind"] for case in told["pictures"]]

    assert (kinds.count("plain"), kinds.count("photograph")) == (110, 60)
    assert {case["views"] for case in told["pictures"]} == {0, 1, 6}


@needs_node
def test_page_prepares_every_picture_as_python_does(cases):
    found = compared(ROOT / "kiosk", cases)

    assert [case for case in found if case["views"] != case["expected"]] == []
    assert [case for case in found if case["kind"] == "plain" and case["most"] > 0] == []
    assert [case["name"] for case in found if case["most"] > 1] == []


CONTRACT = """
import { readFileSync } from "node:fs";
const { contract } = await import(process.argv[1]);
try {
  console.log(JSON.stringify(contract(new Uint8Array(readFileSync(process.argv[2])))));
} catch (error) {
  console.log(JSON.stringify(error.state ?? error.constructor.name));
}
"""


@needs_node
@pytest.mark.parametrize(
    ("odds", "usable"),
    [
        ('{"kind 7": 3, "kind 2": 0.5}', True),
        ('{"kind 99": 1}', False),
        ('{"kind 1": 0}', False),
        ("[1]", False),
        ("null", False),
        ("[", False),
        ('{"kind 1": "3"}', False),
    ],
    ids=["odds", "no class", "zero", "list", "nothing", "torn", "text"],
)
def test_page_weighs_photographs_as_the_model_says_and_python_does(model_file, tmp_path, odds, usable):
    model = onnx.load(model_file)
    model.metadata_props.add(key="photograph_odds", value=odds)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    command = [
        "node",
        "--input-type=module",
        "-e",
        CONTRACT,
        (ROOT / "kiosk/onnx.js").as_uri(),
        str(tmp_path / "model.onnx"),
    ]

    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert isinstance(said, dict) == usable
    if usable:
        assert said["odds"] == Classifier(tmp_path / "model.onnx").photograph_odds.tolist()


@needs_node
def test_another_preprocessing_is_noticed(cases, tmp_path):
    """One level of tolerance changed in a copy of the page: the golden cases tell."""
    for path in (ROOT / "kiosk").glob("*.js"):
        (tmp_path / path.name).write_text(path.read_text().replace("TRIM_TOLERANCE = 16", "TRIM_TOLERANCE = 40"))
    (tmp_path / "package.json").write_text('{"type": "module"}')

    assert any(case["most"] > 1 for case in compared(tmp_path, cases))


INSPECT = """
import { readFileSync } from "node:fs";
const { inspect } = await import(process.argv[1]);
const told = (path) => {
  try {
    return Object.values(inspect(new Uint8Array(readFileSync(path)))).join();
  } catch (error) {
    return error.state ?? error.constructor.name;
  }
};
console.log(JSON.stringify(process.argv.slice(2).map(told)));
"""


def large():
    """Files of up to 90 million pixels, small as files."""
    for side, progressive in ((5_600, True), (5_700, True), (5_700, False), (8_900, False), (9_000, False)):
        jpeg = hostile.encoded(Image.new("L", (side, side), 90), "JPEG", progressive=progressive, quality=20)
        yield jpeg
        yield jpeg[:2] + b"\xff\xfe\0\6\xff\xda\0\2" + jpeg[2:]  # a comment that looks like a scan
    for side in (5_600, 5_700):
        for kind in ("PNG", "GIF"):
            yield hostile.encoded(Image.new("L", (side, side), 90), kind)


def is_too_large(content):
    try:
        decoding.decode(content)
    except ValueError as error:
        return str(error).startswith("expected at most 32,000,000 pixels, 80,000,000 in a plain JPEG.")
    return False


def inspected(files, folder, reader=ROOT / "kiosk/containers.js"):
    """What the page says of files by their containers: a size, or why it refuses them."""
    paths = [folder / str(number) for number in range(len(files))]
    for path, content in zip(paths, files, strict=True):
        path.write_bytes(content)
    command = ["node", "--input-type=module", "-e", INSPECT, reader.as_uri(), *map(str, paths)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@needs_node
def test_page_refuses_the_pictures_that_python_refuses_as_too_large(tmp_path):
    files = list(large())
    said = inspected(files, tmp_path)

    assert [one == "picture-large" for one in said] == [is_too_large(content) for content in files]
    assert {one for one in said if one != "picture-large"} == {"5600,5600", "5700,5700", "8900,8900"}
    assert said.count("picture-large") == 6


def in_parts(format_name, more):
    """A picture with so many parts more than it needs."""
    whole = hostile.encoded(Image.new("L", (64, 64), 90), format_name)
    part, at = {
        "JPEG": (b"\xff\xfe\0\3x", 2),
        "PNG": (b"\0\0\0\1tEXtx" + zlib.crc32(b"tEXtx").to_bytes(4, "big"), len(whole) - 12),
        "GIF": (b"\x21\xfe\1x\0", whole.find(b"\x2c", 13 + 3 * 2 ** ((whole[10] & 7) + 1))),
    }[format_name]
    return whole[:at] + more * part + whole[at:]


def may_be_read(content):
    with contextlib.suppress(ValueError):
        return containers.require_few_parts(content) >= 0
    return False


@needs_node
def test_page_refuses_the_jpegs_that_python_refuses_for_their_scans(tmp_path):
    whole = hostile.encoded(Image.new("L", (64, 64), 90), "JPEG")
    files = [whole[:-2] + b"\xff\xda\0\2" * more + whole[-2:] for more in (0, 63, 64)]

    assert [containers.require_few_parts(content) for content in files[:2]] == [1, 64]
    assert not may_be_read(files[2])
    assert inspected(files, tmp_path) == ["64,64", "64,64", "picture-broken"]


@needs_node
@pytest.mark.parametrize(("format_name", "parts_each"), [("JPEG", 1), ("PNG", 1), ("GIF", 2)])
def test_page_refuses_the_pictures_that_python_refuses_for_their_parts(tmp_path, format_name, parts_each):
    room = containers.MOST_PARTS // parts_each
    files = [in_parts(format_name, more) for more in range(room - 12, room + 2)]
    readable = [may_be_read(content) for content in files]

    assert readable[0]
    assert not readable[-1]
    assert [one == "64,64" for one in inspected(files, tmp_path)] == readable


@needs_node
def test_page_counts_the_parts_of_damaged_pictures_as_python_does(tmp_path, monkeypatch):
    """With limits so low that damage decides; of files that the page can say anything of."""
    rng = np.random.default_rng(11)
    files = []
    for whole in map(in_parts, ("JPEG", "PNG", "GIF") * 8, range(30, 54)):
        for _ in range(12):
            damaged = np.frombuffer(whole, np.uint8).copy()
            damaged[rng.integers(32, len(whole), 4)] = rng.integers(0, 256, 4)
            files.append(damaged[: rng.integers(len(whole) // 2, len(whole) + 1)].tobytes())
    text = (ROOT / "kiosk/containers.js").read_text(encoding="utf-8")
    assert "[10_000, 64]" in text
    low = tmp_path / "low"
    low.mkdir()
    (low / "containers.js").write_text(text.replace("[10_000, 64]", "[40, 4]"), encoding="utf-8")
    (low / "package.json").write_text('{"type": "module"}')
    shutil.copy(ROOT / "kiosk/refusal.js", low)

    plain, strict = inspected(files, tmp_path), inspected(files, tmp_path, low / "containers.js")
    monkeypatch.setattr(containers, "MOST_PARTS", 40)
    monkeypatch.setattr(containers, "MOST_SCANS", 4)
    known = [k for k, one in enumerate(plain) if "," in one]
    readable = [may_be_read(files[k]) for k in known]

    assert len(known) > 200
    assert 50 < sum(readable) < len(known) - 50
    assert ["," in strict[k] for k in known] == readable
