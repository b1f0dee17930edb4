"""The service's own description is true: schemathesis asks a running service whatever it allows, and what it does not."""

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from jsonschema_rs import is_valid
from PIL import Image
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.openapi.checks import JsonSchemaError
from schemathesis.specs.openapi import checks as openapi

from seamline import __main__ as command
from seamline import pictures
from seamline.service import description
from tests.conftest import KINDS, ROOT
from tests.serving import index_of_examples, running

load_all_checks()
CHECKS = [
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_schema_conformance,
    openapi.response_headers_conformance,
    not_a_server_error,
]
OPERATIONS = [
    (path, method)
    for path, methods in description.described(KINDS, corrections=True, token=False)["paths"].items()
    for method in methods
]
SNEAKER = ROOT / "examples/sneaker.png"
IMAGE = {"name": "image", "datatype": "UINT8", "shape": [1, 28, 28]}


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """With everything switched on."""
    folder, model = tmp_path_factory.mktemp("service"), ROOT / "seamline/reference"
    index = index_of_examples(folder / "index.safetensors")
    with running("--model", model, "--index", index, "--corrections", folder / "kept") as found:
        yield found


@pytest.fixture(scope="module")
def jpeg():
    file = io.BytesIO()
    with Image.open(SNEAKER) as garment:
        garment.convert("RGB").resize((600, 600)).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(scope="module")
def schema(service):
    return schemathesis.openapi.from_url(f"{service.url}/openapi.json")


# Threads of other tests' libraries draw from `random`, too, which Hypothesis then takes for a strategy's doing.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "not allowed"])
@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=[f"{method} {path}" for path, method in OPERATIONS])
def test_service_answers_as_it_says_it_does(schema, path, method, mode):
    asked = []

    @settings(max_examples=8, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(schema[path][method].as_strategy(generation_mode=mode))
    def ask(case):
        asked.append(case.call_and_validate(checks=CHECKS, timeout=60).status_code)

    try:
        ask()
    except Unsatisfiable:
        assert mode == GenerationMode.NEGATIVE, "nothing that the description allows could be made"

    assert asked or (mode, method) == (GenerationMode.NEGATIVE, "get"), "of a GET there is nothing that is not allowed"
    assert mode == GenerationMode.POSITIVE or max(asked, default=400) >= 400


@pytest.mark.parametrize("count", [0, 1, 2, 128, 129])
def test_as_many_images_are_described_as_are_taken(service, count):
    operation = service.get("/openapi.json").json()["paths"]["/v2/models/{model}/infer"]["post"]
    asked = {"inputs": [IMAGE | {"shape": [count, 28, 28], "data": [0] * 784 * count}]}

    answer = service.post(
        "/v2/models/seamline/infer", json.dumps(asked).encode(), **{"Content-Type": "application/json"}
    )

    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert is_valid(schema, asked) == (answer.status_code == 200) == (count in {1, 2, 128})


@pytest.mark.parametrize("token", ["", "s3cret"])
def test_token_is_described_where_it_is_asked_for(tmp_path, token):
    with running("--model", ROOT / "seamline/reference", "--corrections", tmp_path, SEAMLINE_TOKEN=token) as service:
        document = service.get("/openapi.json").json()
        asked = {}
        for path, method in OPERATIONS:
            url = service.url + path.format(model="seamline", version="1")
            asked[path, method] = requests.request(method, url, timeout=60).status_code

    told = {(path, method): document["paths"][path][method] for path, method in OPERATIONS}
    wanted = {one for one, operation in told.items() if operation.get("security", document["security"])}
    assert wanted == {one for one, status in asked.items() if status == 401}
    assert wanted == {one for one, operation in told.items() if "401" in operation["responses"]}
    assert len(wanted) == (len(OPERATIONS) - 2 if token else 0)


def test_what_any_request_may_be_refused_for_is_described_of_every_operation(service):
    document = service.get("/openapi.json").json()
    answers = [document["paths"][path][method]["responses"] for path, method in OPERATIONS]

    assert [set(one) for one in answers if not set(one) >= {"400", "403", "408", "413", "421", "431", "503"}] == []
    assert all("Retry-After" in one[status]["headers"] for one in answers for status in {"429", "503"} & set(one))


def as_described(schema, path, answer):
    """The answer's JSON, which has what the description says of it; tensors' bytes may be behind it."""
    schema[path]["POST"].validate_response(answer)
    length = answer.headers.get("Inference-Header-Content-Length")
    if length is None:
        return answer.json()
    answer._content = answer.content[: int(length)]
    answer.headers = {"Content-Type": "application/json"}
    return as_described(schema, path, answer)


@pytest.mark.parametrize("path", ["/v1/classify", "/v1/similar"])
def test_answer_to_a_jpeg_is_as_described(service, schema, jpeg, path):
    raw = as_described(schema, path, service.post(path, jpeg, **{"Content-Type": "image/jpeg"}))
    form = as_described(schema, path, requests.post(service.url + path, files={"picture": jpeg}, timeout=60))

    assert raw == form
    assert raw["kind"] == "Sneaker"
    assert len(raw.get("neighbours", [])) == (5 if path == "/v1/similar" else 0)


def test_answer_to_a_correction_is_as_described_the_first_time_and_again(service, schema, jpeg):
    form = {"picture": jpeg, "kind": (None, "Sneaker")}

    answers = [requests.post(f"{service.url}/v1/corrections", files=form, timeout=60) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 200]
    assert [as_described(schema, "/v1/corrections", one)["kept"] for one in answers] == [True, False]


@pytest.mark.parametrize("binary_out", [True, False], ids=["bytes out", "JSON out"])
@pytest.mark.parametrize("binary_in", [True, False], ids=["bytes in", "JSON in"])
def test_answer_to_tensors_is_as_described(service, schema, binary_in, binary_out):
    image = pictures.read(SNEAKER)
    form = {"parameters": {"binary_data_size": image.size}} if binary_in else {"data": image.ravel().tolist()}
    asked = {"inputs": [IMAGE | form], "parameters": {"binary_data_output": binary_out}}
    head = json.dumps(asked).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))} if binary_in else {"Content-Type": "application/json"}

    answer = service.post("/v2/models/seamline/infer", head + image.tobytes() * binary_in, **headers)
    kind = answer.headers["Content-Type"]
    told = as_described(schema, "/v2/models/{model}/infer", answer)

    assert kind == ("application/octet-stream" if binary_out else "application/json")
    assert [one["name"] for one in told["outputs"]] == ["probabilities", "embedding"]


@pytest.mark.parametrize(
    ("path", "otherwise"),
    [("/v1/classify", {"kind": "Hat"}), ("/v1/similar", {"neighbours": [{"name": "a"}]})],
)
def test_answer_that_is_not_as_described_is_noticed(service, schema, jpeg, path, otherwise):
    answer = service.post(path, jpeg)
    answer._content = json.dumps(answer.json() | otherwise).encode()

    with pytest.raises(JsonSchemaError, match="violates schema"):
        as_described(schema, path, answer)


def test_page_shows_every_path_without_a_script_or_the_network(service):
    page = service.get("/docs")

    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self';")
    assert [path for path, _ in OPERATIONS if path not in page.text] == []
    assert re.findall(r"<script|style=|https?://(?!127\.0\.0\.1)", page.text) == []
    assert "<code>kind, probability, unknown, probabilities, version, model</code>" in page.text
    assert service.get("/docs.css").headers["Content-Type"].startswith("text/css")
    assert service.get("/").url == f"{service.url}/docs"


def test_description_names_what_is_served(service):
    told = service.get("/openapi.json").json()

    assert "Ankle boot" in told["components"]["schemas"]["Classified"]["properties"]["kind"]["enum"]
    assert "/v1/corrections" in told["paths"]
    assert "/v1/corrections" not in description.described(KINDS, corrections=False, token=False)["paths"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_unit_is_as_systemd_wants_it(tmp_path):
    unit = (ROOT / "docs/service/seamline.service").read_text(encoding="utf-8")
    (tmp_path / "seamline.service").write_text(unit.replace("/opt/seamline/bin/seamline", sys.executable))

    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "seamline.service")], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_container_file_has_nothing_that_hadolint_finds(tmp_path):
    linter, guide = Path(sys.executable).parent / "hadolint", ROOT / "docs/service/Containerfile"
    (tmp_path / "Containerfile").write_text(f"{guide.read_text(encoding='utf-8')}RUN cd /\n", encoding="utf-8")

    ours, wrong = (
        subprocess.run([linter, path], capture_output=True, text=True, check=False)
        for path in (guide, tmp_path / "Containerfile")
    )

    assert (ours.returncode, ours.stdout, ours.stderr) == (0, "", "")
    assert wrong.returncode == 1
    assert "DL3003" in wrong.stdout


@pytest.mark.parametrize("path", ["docs/service/seamline.service", "docs/service/Containerfile"])
def test_commands_in_the_guides_files_are_ones_that_the_service_takes(path):
    text = (ROOT / path).read_text(encoding="utf-8").replace('", "', " ")
    words = re.search(r"seamline (serve [^\"\n\]]*)", text)[1].split()

    chosen = command._parser().parse_args(words)

    assert chosen.drain == 2
