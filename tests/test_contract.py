"""One contract for Python, service and page (tests/contract.py) on the same golden cases: X4 and B7 of docs/faults.md."""

import io
import shutil

import pytest
from PIL import Image

from tests import contract, golden
from tests.browsing import needs_chromium
from tests.conftest import ROOT
from tests.serving import running

pytest_plugins = ["tests.browsing", "tests.serving"]
pytestmark = pytest.mark.slow


@pytest.fixture(params=["python", "service", pytest.param("page", marks=needs_chromium)])
def place(request, tmp_path):
    """Who answers."""
    if request.param == "python":
        return contract.CommandLine(tmp_path)
    if request.param == "service":
        return contract.Service(request.getfixturevalue("service"))
    visit, address = request.getfixturevalue("visit"), request.getfixturevalue("address")
    return contract.Page(visit(address, service_workers="block"))


@pytest.fixture(scope="module")
def files():
    """Product shots and photographs, as PNG: every reader decodes the same pixels."""
    return {f"{case.name}.png": case.content for case in [*golden.plain(), *golden.photographs()]}


def test_thousand_golden_images_are_of_the_class_that_python_says(place):
    images = golden.images()

    assert (len(images), len(set(contract.Functions().probabilities(images).argmax(1)))) == (1000, 10)
    assert contract.images_that_differ(place, images) == 0


def test_every_golden_picture_is_answered_as_python_answers_it(place, files):
    assert len(files) == 110 + 60
    assert contract.files_that_differ(place, files) == []


def test_jpeg_and_webp_are_answered_by_the_service_as_python_answers_them(service, files):
    taken = {name: content for name, content in files.items() if name.startswith("photograph")}
    those = {f"{name}.{kind}": saved(content, kind) for name, content in taken.items() for kind in ("JPEG", "WEBP")}

    assert contract.files_that_differ(contract.Service(service), those) == []


@pytest.mark.parametrize(
    "spoilt",
    [pytest.param("np.rot90({}, axes=(1, 2))", id="turned"), pytest.param("255 - {}", id="negated")],
)
def test_service_that_prepares_pixels_otherwise_is_noticed(tmp_path, files, spoilt):
    shutil.copytree(ROOT / "seamline", tmp_path / "seamline", ignore=shutil.ignore_patterns("__pycache__"))
    for name, right in (
        ("tensors.py", "flat.reshape(count, SIDE, SIDE)"),
        ("answers.py", "pictures.from_picture(picture)"),
    ):
        file = tmp_path / "seamline/service" / name
        code = file.read_text(encoding="utf-8")
        assert code.count(right) == 1
        file.write_text(code.replace(right, spoilt.format(right)), encoding="utf-8")
    some = {name: files[name] for name in list(files)[::10]}

    with running("--model", golden.REFERENCE, cwd=tmp_path, PYTHONPATH=str(tmp_path)) as service:
        images = contract.images_that_differ(contract.Service(service), golden.images(200))
        named_otherwise = contract.files_that_differ(contract.Service(service), some)

    assert images > 190
    assert len(named_otherwise) > len(some) / 2


def saved(content, kind):
    file = io.BytesIO()
    with Image.open(io.BytesIO(content)) as picture:
        picture.convert("RGB").save(file, kind, quality=85)
    return file.getvalue()
