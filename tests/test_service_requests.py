"""Tensors, forms and bodies that are not as the service has them: refused, with one sentence."""

import json

import pytest

from seamline.service import forms
from seamline.service.refusals import Refused
from tests.conftest import ROOT

pytest_plugins = ["tests.serving"]
REFERENCE = ROOT / "seamline/reference"
IMAGE = {"name": "image", "datatype": "UINT8", "shape": [1, 28, 28], "data": [0] * 784}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param("{", "Expected JSON", id="no JSON"),
        pytest.param("[" * 200_000, "Expected JSON", id="deep"),
        pytest.param('{"inputs": ' + "[" * 900 + "]" * 900 + "}", "one input", id="deep inputs"),
        pytest.param("[1]", "JSON object", id="a list"),
        pytest.param("\ud800".encode("utf-8", "surrogatepass"), "Expected JSON", id="no text"),
        pytest.param({"inputs": []}, "one input", id="no input"),
        pytest.param({"inputs": [IMAGE, IMAGE]}, "one input", id="two inputs"),
        pytest.param({"inputs": [IMAGE | {"name": "x"}]}, "input image", id="another name"),
        pytest.param({"inputs": [IMAGE | {"datatype": "FP32"}]}, "datatype UINT8", id="another type"),
        pytest.param({"inputs": [IMAGE | {"shape": [28, 28]}]}, "the shape", id="another rank"),
        pytest.param({"inputs": [IMAGE | {"shape": [0, 28, 28]}]}, "the shape", id="none"),
        pytest.param({"inputs": [IMAGE | {"shape": [2**62, 28, 28]}]}, "the shape", id="far too many"),
        pytest.param({"inputs": [IMAGE | {"shape": [True, 28, 28]}]}, "the shape", id="true images"),
        pytest.param({"inputs": [IMAGE | {"shape": "abc"}]}, "the shape", id="a shape of letters"),
        pytest.param({"inputs": [IMAGE | {"data": [0] * 783}]}, "784 numbers", id="a number short"),
        pytest.param({"inputs": [IMAGE | {"data": [0] * 783 + [256]}]}, "0 … 255", id="256"),
        pytest.param({"inputs": [IMAGE | {"data": [0] * 783 + [-1]}]}, "0 … 255", id="negative"),
        pytest.param({"inputs": [IMAGE | {"data": [0] * 783 + [1.5]}]}, "0 … 255", id="a fraction"),
        pytest.param({"inputs": [IMAGE | {"data": [0] * 783 + [10**400]}]}, "0 … 255", id="10 to the 400"),
        pytest.param({"inputs": [IMAGE | {"data": [[0], [0, 1]]}]}, "of one shape", id="ragged"),
        pytest.param({"inputs": [IMAGE | {"data": ["0"] * 784}]}, "0 … 255", id="texts"),
        pytest.param(
            {"inputs": [IMAGE | {"data": ["x" * 100_000, *[""] * 9_999]}]},
            "0 … 255",
            id="a long text and many short ones",
        ),
        pytest.param({"inputs": [IMAGE | {"data": [0] * 783 + [True]}]}, "0 … 255", id="true among numbers"),
        pytest.param({"inputs": [IMAGE | {"data": None}]}, "0 … 255", id="null"),
        pytest.param({"inputs": [IMAGE | {"data": [0] * 783 + [float("nan")]}]}, "Expected JSON", id="nan"),
        pytest.param({"inputs": [IMAGE | {"data": [0] * 783 + [float("inf")]}]}, "Expected JSON", id="infinity"),
        pytest.param({"inputs": [IMAGE | {"parameters": 3}]}, "Expected parameters", id="parameters"),
        pytest.param(
            {"inputs": [IMAGE | {"parameters": {"shared_memory_region": "a"}}]}, "shared memory", id="shared memory"
        ),
        pytest.param({"inputs": [IMAGE | {"parameters": {"binary_data_size": -1}}]}, "binary_data_size", id="size"),
        pytest.param({"inputs": [IMAGE], "outputs": [{"name": "x"}]}, "Expected outputs among", id="another output"),
        pytest.param({"inputs": [IMAGE], "outputs": [{"name": []}]}, "Expected outputs among", id="a list as a name"),
        pytest.param({"inputs": [IMAGE], "outputs": [{"name": "embedding"}] * 2}, "each once", id="an output twice"),
        pytest.param({"inputs": [IMAGE], "outputs": [7]}, "a list of objects", id="a number as an output"),
        pytest.param({"inputs": [IMAGE], "id": 7}, "Expected an id", id="a number as an id"),
        pytest.param({"inputs": [IMAGE], "id": "x" * 257}, "Expected an id", id="a long id"),
    ],
)
def test_tensors_that_are_not_as_the_protocol_has_them_are_400(service, body, reason):
    content = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()

    refused = service.post("/v2/models/seamline/infer", content, **{"Content-Type": "application/json"})

    assert refused.status_code == 400
    assert reason in refused.json()["error"]


@pytest.mark.parametrize("length", ["x", "-1", "1" * 30, "999999", "0"])
def test_length_of_the_json_that_cannot_be_is_400(service, length):
    body = json.dumps({"inputs": [IMAGE]}).encode()

    refused = service.post("/v2/models/seamline/infer", body, **{"Inference-Header-Content-Length": length})

    assert refused.status_code == 400


def test_bytes_behind_json_that_names_none_are_400(service):
    body = json.dumps({"inputs": [IMAGE]}).encode()

    refused = service.post(
        "/v2/models/seamline/infer", body + b"x", **{"Inference-Header-Content-Length": str(len(body))}
    )

    assert refused.status_code == 400
    assert "Received 1 bytes without it" in refused.json()["error"]


PART = b'--b\r\nContent-Disposition: form-data; name="picture"; filename="a"\r\n\r\n'


@pytest.mark.parametrize(
    ("content_type", "body", "expected", "reason"),
    [
        pytest.param("multipart/form-data", b"x", 400, "with a boundary", id="no boundary"),
        pytest.param("multipart/form-data; boundary=b", b"x", 400, "is broken", id="no form"),
        pytest.param("multipart/form-data; boundary=b", PART + b"x", 400, "before its last boundary", id="cut short"),
        pytest.param(f"multipart/form-data; boundary={'b' * 5000}", b"x", 400, "is broken", id="long boundary"),
        pytest.param(
            "multipart/form-data; boundary=b", (PART + b"x\r\n") * 2 + b"--b--\r\n", 400, "twice", id="a field twice"
        ),
        pytest.param(
            "multipart/form-data; boundary=b", b"--b\r\n" + b"A: b\r\n" * 9000, 400, "is broken", id="many heads"
        ),
        pytest.param(
            "multipart/form-data; boundary=b",
            PART.replace(b"picture", b"other") + b"x\r\n--b--\r\n",
            422,
            "Expected a field 'picture'",
            id="another field",
        ),
        pytest.param("multipart/form-data; boundary=b", PART + b"\r\n--b--\r\n", 422, "Not a picture", id="empty"),
    ],
)
def test_broken_forms_are_refused(service, content_type, body, expected, reason):
    refused = service.post("/v1/classify", body, **{"Content-Type": content_type})

    assert refused.status_code == expected
    assert reason in refused.json()["error"]


@pytest.mark.parametrize(
    ("headers", "body", "expected", "reason"),
    [
        pytest.param({"Content-Type": "text/html"}, b"x", 415, "Expected a Content-Type among", id="another type"),
        pytest.param({"Content-Type": "application/x-www-form-urlencoded"}, b"x", 415, "which curl says", id="curl's"),
        pytest.param({"Content-Type": ""}, b"x", 415, "Expected a Content-Type among", id="no type"),
        pytest.param({"Content-Encoding": "gzip"}, b"x", 415, "not compressed", id="compressed"),
        pytest.param({}, b"", 400, "Expected a body. Received none.", id="empty"),
        pytest.param({}, b"no picture", 422, "none of JPEG, PNG, WEBP, GIF", id="no picture"),
    ],
)
def test_bodies_that_are_no_pictures_are_refused(service, headers, body, expected, reason):
    refused = service.post("/v1/classify", body, **headers)

    assert refused.status_code == expected
    assert reason in refused.json()["error"]


def test_form_field_that_is_absent_is_refused():
    with pytest.raises(Refused, match="Expected a field 'kind' in the form. Received none."):
        forms.field({"picture": b"x"}, "kind")
