"""The service answers the golden cases as Python does, which Node.js and Chromium are given too: X4 of docs/faults.md."""

import io
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.http
from PIL import Image

from seamline import Classifier, pictures
from seamline.service.tensors import MOST_IMAGES
from tests import golden
from tests.conftest import ROOT
from tests.serving import running

pytest_plugins = ["tests.serving"]
pytestmark = pytest.mark.slow
TOLERANCE = 0.001  # of a probability, as for Chromium
ROUNDED = 1e-6  # what /v1/classify says of one


@pytest.fixture(scope="module")
def classifier():
    return Classifier(golden.REFERENCE)


@pytest.fixture(scope="module")
def cases():
    """Files of pictures: all that tests/golden.py has, and its photographs as JPEG and WebP too."""
    made = [(case.name, case.content) for case in [*golden.plain(), *golden.photographs()]]
    taken = [(name, content) for name, content in made if name.startswith("photograph")]
    return made + [(f"{name}.{kind}", saved(content, kind)) for name, content in taken for kind in ("JPEG", "WEBP")]


def saved(content, kind):
    file = io.BytesIO()
    with Image.open(io.BytesIO(content)) as picture:
        picture.convert("RGB").save(file, kind, quality=85)
    return file.getvalue()


def inferred(service, images):
    """Their probabilities, by binary tensors."""
    found = []
    with tritonclient.http.InferenceServerClient(f"{service.host}:{service.port}") as client:
        for first in range(0, len(images), MOST_IMAGES):
            part = images[first : first + MOST_IMAGES]
            tensor = tritonclient.http.InferInput("image", list(part.shape), "UINT8")
            tensor.set_data_from_numpy(part)
            found.append(client.infer("seamline", [tensor]).as_numpy("probabilities"))
    return np.concatenate(found)


def images_that_differ(service, classifier, images):
    """How many are of another class, or have another probability."""
    found, expected = inferred(service, images), classifier.probabilities(images)
    alike = (np.abs(found - expected) <= TOLERANCE).all(axis=1) & (found.argmax(1) == expected.argmax(1))
    return int((~alike).sum())


def pictures_that_differ(service, classifier, cases):
    """Names of those that are called otherwise than Python calls them, or with another probability."""
    with ThreadPoolExecutor(2) as two:
        answers = list(two.map(lambda case: service.post("/v1/classify", case[1]), cases))
    those = zip(cases, answers, strict=True)
    return [name for (name, content), answer in those if not alike(answer, classifier, content)]


def alike(answer, classifier, content):
    try:
        views = pictures.from_picture(content)
    except ValueError:  # a garment of its ground's colour
        return answer.status_code == 422
    expected = classifier.classify_views(views)
    told = answer.json()
    return answer.status_code == 200 and (told["kind"], told["probability"]) == (
        expected.name,
        pytest.approx(expected.probability, abs=ROUNDED),
    )


def test_thousand_golden_images_as_tensors_are_answered_as_python_answers_them(service, classifier):
    images = golden.images()

    assert len(images) == 1000
    assert images_that_differ(service, classifier, images) == 0


def test_every_golden_picture_as_a_file_is_answered_as_python_answers_it(service, classifier, cases):
    assert len(cases) == 110 + 3 * 60
    assert pictures_that_differ(service, classifier, cases) == []


@pytest.mark.parametrize(
    "spoilt",
    [pytest.param("np.rot90({}, axes=(1, 2))", id="turned"), pytest.param("255 - {}", id="negated")],
)
def test_service_that_prepares_pixels_otherwise_is_noticed(tmp_path, classifier, cases, spoilt):
    shutil.copytree(ROOT / "seamline", tmp_path / "seamline", ignore=shutil.ignore_patterns("__pycache__"))
    for name, right in (
        ("tensors.py", "flat.reshape(count, SIDE, SIDE)"),
        ("answers.py", "pictures.from_picture(picture)"),
    ):
        file = tmp_path / "seamline/service" / name
        code = file.read_text(encoding="utf-8")
        assert code.count(right) == 1
        file.write_text(code.replace(right, spoilt.format(right)), encoding="utf-8")
    some = cases[::10]

    with running("--model", golden.REFERENCE, cwd=tmp_path, PYTHONPATH=str(tmp_path)) as service:
        images = images_that_differ(service, classifier, golden.images(200))
        named_otherwise = pictures_that_differ(service, classifier, some)

    assert images > 190
    assert len(named_otherwise) > len(some) / 2
