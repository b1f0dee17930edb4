"""What the service answers: as the runtime does, to curl, to a form and to an existing client of the protocol."""

from collections import Counter

import numpy as np
import pytest
import requests
import tritonclient.http
from PIL import Image
from tritonclient.utils import InferenceServerException

import seamline
from seamline import bundle, likeness, pictures
from seamline.similar import ALIKE
from tests.conftest import ROOT
from tests.serving import running

EXAMPLES = sorted((ROOT / "examples").glob("*.png"))
REFERENCE = ROOT / "seamline/reference"
VERSION = bundle.read(REFERENCE).version
SNEAKER = ROOT / "examples/sneaker.png"


@pytest.fixture(scope="module")
def classifier():
    return seamline.Classifier(REFERENCE)


@pytest.fixture(scope="module")
def service(tmp_path_factory, classifier):
    """With the bundle in git, and an index of the examples."""
    index = tmp_path_factory.mktemp("index") / "index.safetensors"
    images = np.stack([pictures.read(path) for path in EXAMPLES])
    names = [path.stem for path in EXAMPLES[:-1]] + ['<b onclick="x">\u202e']
    likeness.write(index, likeness.Index(names, classifier.embed(images), classifier.digest))
    with running("--model", REFERENCE, "--index", index) as found:
        yield found


@pytest.fixture
def client(service):
    with tritonclient.http.InferenceServerClient(f"{service.host}:{service.port}") as found:
        yield found


def image_input(images):
    tensor = tritonclient.http.InferInput("image", list(images.shape), "UINT8")
    tensor.set_data_from_numpy(images)
    return tensor


# X4


def test_service_gives_the_runtimes_answers_on_golden_images(service, client, classifier, tmp_path):
    golden = bundle.golden(bundle.read(REFERENCE))

    inferred = client.infer("seamline", [image_input(golden.images)]).as_numpy("probabilities")

    assert golden.differences(inferred) == []
    np.testing.assert_array_equal(inferred, classifier.probabilities(golden.images))
    black = [number for number, image in enumerate(golden.images) if image[0, 0] == 0]  # others are cut out first
    assert len(black) >= 8
    for number in black:
        Image.fromarray(golden.images[number]).save(tmp_path / "golden.png")
        told = service.post("/v1/classify", (tmp_path / "golden.png").read_bytes()).json()
        found = list(told["probabilities"].values())
        np.testing.assert_allclose(found, golden.probabilities[number], atol=golden.tolerance)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_picture_is_named_as_the_runtime_names_it(service, classifier, path):
    expected = classifier.classify_views(pictures.from_picture(path))

    told = service.post("/v1/classify", path.read_bytes()).json()

    assert (told["kind"], told["unknown"]) == (expected.name, expected.name == "unknown")
    assert told["probability"] == pytest.approx(expected.probability, abs=1e-6)
    assert list(told["probabilities"]) == list(classifier.classes)
    assert (told["version"], told["model"]) == (classifier.info["version"], classifier.digest)


def test_form_and_raw_body_are_answered_alike(service):
    raw = service.post("/v1/classify", SNEAKER.read_bytes())

    form = requests.post(f"{service.url}/v1/classify", files={"picture": SNEAKER.read_bytes()}, timeout=60)

    assert form.json() == raw.json()


def test_similar_names_the_picture_itself_first_and_as_many_as_are_asked_for(service):
    told = service.post("/v1/similar?k=3", SNEAKER.read_bytes()).json()
    by_default = service.post("/v1/similar", SNEAKER.read_bytes()).json()

    assert told["neighbours"][0] == {"name": "sneaker", "similarity": pytest.approx(1, abs=1e-5), "alike": True}
    assert [one["alike"] for one in told["neighbours"]] == [one["similarity"] >= ALIKE for one in told["neighbours"]]
    assert not by_default["neighbours"][-1]["alike"], "there are no five sneakers"
    assert [len(one["neighbours"]) for one in (told, by_default)] == [3, 5]
    assert told.items() >= service.post("/v1/classify", SNEAKER.read_bytes()).json().items()


def test_names_in_the_index_come_as_they_are(service):
    told = service.post("/v1/similar?k=100", SNEAKER.read_bytes())

    assert '<b onclick="x">\u202e' in [one["name"] for one in told.json()["neighbours"]]
    assert told.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("k", ["0", "101", "-1", "1e2", "", "٣", "9" * 5000])
def test_k_that_is_no_such_number_is_refused(service, k):
    refused = service.post(f"/v1/similar?k={k}", SNEAKER.read_bytes())

    assert (refused.status_code, refused.json()) == (
        422,
        {"error": "Expected k from 1 to 100. Received something else."},
    )


def test_similar_without_an_index_and_corrections_that_are_off_are_404(tmp_path):
    with running("--model", REFERENCE) as service:
        similar = service.post("/v1/similar", SNEAKER.read_bytes())
        corrected = requests.post(f"{service.url}/v1/corrections", files={"picture": b"x"}, timeout=60)

    assert (similar.status_code, similar.json()["error"]) == (
        404,
        "This service was started without an index (--index FILE).",
    )
    assert (corrected.status_code, corrected.json()["error"]) == (
        404,
        "This service keeps no corrections (--corrections FOLDER).",
    )


def test_index_of_another_model_is_said_and_everything_else_answers(tmp_path):
    rows = np.eye(2, 8, dtype=np.float32)
    likeness.write(tmp_path / "other", likeness.Index(["a", "b"], rows, "f" * 64))
    with running("--model", REFERENCE, "--index", tmp_path / "other") as service:
        similar = service.post("/v1/similar", SNEAKER.read_bytes())
        classified = service.post("/v1/classify", SNEAKER.read_bytes())

    assert similar.status_code == 404
    assert "The index is another model's. Make it again: seamline index FOLDER" in similar.json()["error"]
    assert classified.json()["kind"] == "Sneaker"


def test_index_that_cannot_be_read_is_said(tmp_path):
    with running("--model", REFERENCE, "--index", tmp_path / "absent") as service:
        similar = service.post("/v1/similar", SNEAKER.read_bytes())

    assert similar.status_code == 404
    assert "The index cannot be used: " in similar.json()["error"]


# The Open Inference Protocol


def test_existing_client_finds_server_and_model(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("seamline")
    assert client.is_model_ready("seamline", str(VERSION))
    assert not client.is_model_ready("seamline", str(VERSION + 1))
    assert not client.is_model_ready("another")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert client.get_model_metadata("seamline")["inputs"] == [
        {"name": "image", "datatype": "UINT8", "shape": [-1, 28, 28]}
    ]


@pytest.mark.parametrize("binary_in", [True, False], ids=["bytes in", "JSON in"])
@pytest.mark.parametrize("binary_out", [True, False], ids=["bytes out", "JSON out"])
def test_existing_client_gets_the_runtimes_answers(client, classifier, binary_in, binary_out):
    images = np.random.default_rng(1).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    tensor = tritonclient.http.InferInput("image", [5, 28, 28], "UINT8")
    tensor.set_data_from_numpy(images, binary_data=binary_in)
    asked = [
        tritonclient.http.InferRequestedOutput(name, binary_data=binary_out) for name in ("embedding", "probabilities")
    ]

    answered = client.infer("seamline", [tensor], outputs=asked, request_id="7")

    np.testing.assert_array_equal(answered.as_numpy("probabilities"), classifier.probabilities(images))
    np.testing.assert_array_equal(answered.as_numpy("embedding"), classifier.embed(images))
    assert (answered.get_response()["id"], answered.get_response()["model_version"]) == ("7", str(VERSION))


def test_images_are_counted_by_what_the_classifier_calls_them(service, client, classifier):
    noise = np.random.default_rng(2).integers(0, 256, (100, 28, 28), dtype=np.uint8)
    images = np.concatenate([bundle.golden(bundle.read(REFERENCE)).images, noise])
    expected = Counter(answer.name for answer in classifier.classify(images))
    assert len(expected) > 5
    assert expected["unknown"] > 0
    names = [*classifier.classes, "unknown"]

    def counted():
        return Counter({name: service.metric(f'seamline_answers_total{{kind="{name}"}}') for name in names})

    before = counted()
    client.infer("seamline", [image_input(images)])
    after = counted()
    client.infer("seamline", [image_input(images)], outputs=[tritonclient.http.InferRequestedOutput("embedding")])

    assert after - before == expected
    assert counted() == after  # nobody was told a kind


def test_existing_client_is_told_what_is_wrong(client):
    with pytest.raises(InferenceServerException, match="n from 1 to 128. Received another"):
        client.infer("seamline", [image_input(np.zeros((129, 28, 28), np.uint8))])


def test_no_model_is_loaded_by_request(client, service):
    with pytest.raises(InferenceServerException, match="Not Found"):
        client.load_model("seamline")
    with pytest.raises(InferenceServerException, match="Not Found"):
        client.register_system_shared_memory("a", "/a", 1)
