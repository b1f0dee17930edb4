"""Who may ask the service: whoever has the token, and no page of another site."""

from pathlib import Path

import pytest
import requests

from tests.conftest import ROOT
from tests.serving import running

pytest_plugins = ["tests.serving"]
REFERENCE = ROOT / "seamline/reference"
SNEAKER = ROOT / "examples/sneaker.png"


def test_token_is_asked_for_and_compared(tmp_path):
    with running("--model", REFERENCE, SEAMLINE_TOKEN="s3cret") as service:  # noqa: S106 (nobody's)
        given = {
            token: service.post("/v1/classify", SNEAKER.read_bytes(), Authorization=token).status_code
            for token in ("", "Bearer wrong", "Basic s3cret", "bearer s3cret", "Bearer s3cret")
        }
        open_paths = {path: service.get(path).status_code for path in ("/v2/health/ready", "/docs", "/metrics", "/v2")}
        environment = b"".join(Path(f"/proc/{worker}/environ").read_bytes() for worker in service.workers())

    assert given == {
        "": 401,
        "Bearer wrong": 401,
        "Basic s3cret": 401,
        "bearer s3cret": 200,
        "Bearer s3cret": 200,
    }
    assert open_paths == {"/v2/health/ready": 200, "/docs": 200, "/metrics": 401, "/v2": 401}
    assert b"PATH=" in environment
    assert b"s3cret" not in environment


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param({}, 200, id="no page"),
        pytest.param({"Origin": "https://evil.example"}, 403, id="another page"),
        pytest.param({"Origin": "null"}, 403, id="a page from nowhere"),
        pytest.param({"Origin": "http://["}, 403, id="a page at no address"),
        pytest.param({"Host": "evil.example"}, 421, id="a name that was made to point here"),
        pytest.param({"Host": "evil.example", "Origin": "http://evil.example"}, 421, id="and its page"),
        pytest.param({"Host": "[", "Origin": "x"}, 421, id="no name"),
        pytest.param({"Host": "localhost:1", "Origin": "http://localhost:1"}, 200, id="its own page"),
        pytest.param({"Host": "[::1]:1"}, 200, id="an address"),
    ],
)
def test_other_sites_in_a_browser_may_not_ask(service, headers, expected):
    assert service.post("/v1/classify", SNEAKER.read_bytes(), **headers).status_code == expected


def test_two_hosts_are_none(service):
    answer = service.raw(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 400 ")


def test_page_that_may_ask_is_told_so():
    page = "http://kiosk.example:9000"
    with running("--model", REFERENCE, "--origin", page) as service:
        asked = service.post("/v1/classify", SNEAKER.read_bytes(), Origin=page)
        before = requests.options(
            f"{service.url}/v1/classify",
            headers={"Origin": page, "Access-Control-Request-Method": "POST"},
            timeout=60,
        )
        other = service.post("/v1/classify", SNEAKER.read_bytes(), Origin="http://kiosk.example:9001")

    assert (asked.status_code, asked.headers["Access-Control-Allow-Origin"], asked.headers["Vary"]) == (
        200,
        page,
        "Origin",
    )
    assert (before.status_code, before.headers["Access-Control-Allow-Origin"]) == (204, page)
    assert "content-type" in before.headers["Access-Control-Allow-Headers"]
    assert other.status_code == 403
    assert "Access-Control-Allow-Origin" not in other.headers
