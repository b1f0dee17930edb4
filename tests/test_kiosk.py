"""`seamline kiosk`: what it serves, to whom, and what it refuses."""

import contextlib
import hashlib
import http.client
import json
import shutil
import signal
import socket
import threading
import time
from argparse import Namespace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from seamline import kiosk, site
from seamline.__main__ import main
from tasks import folders
from tests.browsing import serving
from tests.conftest import ROOT

pytest_plugins = ["tests.browsing"]
TOKEN = {"SEAMLINE_TOKEN": "t"}
REFERENCE = ROOT / "seamline/reference"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page with stand-ins for what npm brings, so that no network is needed."""
    folder = tmp_path_factory.mktemp("page") / "kiosk"
    shutil.copytree(ROOT / "kiosk", folder, ignore=shutil.ignore_patterns("vendor", "samples", "node_modules"))
    for name in site.NEEDED:
        (folder / name).parent.mkdir(exist_ok=True)
        if not (folder / name).exists():
            (folder / name).write_bytes(b"\0asm")
    return folder


@pytest.fixture(scope="module")
def server(page):
    with serving("--page", page, "--bundle", REFERENCE, "--port", 0) as (address, _):
        yield urlsplit(address)


def ask(server, path, method="GET", body=None, **headers):
    connection = http.client.HTTPConnection(server.hostname, server.port, timeout=30)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer, content


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/vendor/ort-wasm-simd-threaded.wasm", "application/wasm"),
        ("/vendor/ort.wasm.bundle.min.mjs", "text/javascript; charset=utf-8"),
        ("/manifest.webmanifest", "application/manifest+json"),
        ("/icon.svg", "image/svg+xml"),
        ("/bundle/model.onnx?sha256=abc", "application/octet-stream"),
        ("/bundle/manifest.json", "application/json"),
    ],
)
def test_every_file_has_its_type_and_a_strict_policy(server, path, kind):
    answer, content = ask(server, path)

    assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
    assert int(answer.headers["Content-Length"]) == len(content) > 0
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'"
        in answer.headers["Content-Security-Policy"]
    )
    assert "unsafe-inline" not in answer.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


def test_policy_stands_in_the_page_too_for_hosts_that_send_no_headers():
    html = (ROOT / "kiosk/index.html").read_text(encoding="utf-8")

    assert f'content="{kiosk.POLICY}"' in html
    assert "<style" not in html
    assert " style=" not in html
    assert "<script>" not in html


@pytest.mark.parametrize(
    "path",
    [
        "/../README.md",
        "/%2e%2e/README.md",
        "/..%2fREADME.md",
        "/.gitignore",
        "/bundle/../index.html",
        "/bundle/",
        "/stock/../../etc/passwd",
        "/page.js%00",
        "/samples//",
        "/index.safetensors",
        "/no-such-file.js",
    ],
)
def test_nothing_but_the_page_and_the_bundle_is_served(server, path):
    assert ask(server, path)[0].status == 404


def test_link_out_of_the_page_is_not_followed(page):
    (page / "outside.json").symlink_to(ROOT / "examples/bundle.mjs")
    try:
        assert site.Site(page, REFERENCE, page).file("outside.json") is None
    finally:
        (page / "outside.json").unlink()


def test_another_site_that_points_here_is_turned_away(server):
    assert ask(server, "/", Host="rebound.example")[0].status == 421


def test_address_that_is_none_is_a_bad_request(server):
    with socket.create_connection((server.hostname, server.port), timeout=30) as connection:
        connection.sendall(b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n")

        assert connection.makefile("rb").readline() == b"HTTP/1.1 400 Bad Request\r\n"


def test_known_file_is_not_sent_again(server):
    tag = ask(server, "/page.js")[0].headers["ETag"]

    answer, content = ask(server, "/page.js", If_None_Match=tag)

    assert (answer.status, content) == (304, b"")


def test_list_of_files_is_true(server, page):
    told = json.loads(ask(server, "/files.json")[1])

    assert {"index.html", "page.js", "sw.js", "vendor/ort-wasm-simd-threaded.wasm"} <= set(told["files"])
    assert told["files"]["page.js"] == hashlib.sha256((page / "page.js").read_bytes()).hexdigest()
    assert not [name for name in told["files"] if name.startswith(("bundle/", "package", "."))]


def test_corrections_are_passed_on_from_this_page_alone(page, collector):
    service = f"http://127.0.0.1:{collector.server_address[1]}"
    form = {"Content_Type": "multipart/form-data; boundary=b"}
    with serving("--page", page, "--bundle", REFERENCE, "--port", 0, "--service", service, **TOKEN) as (
        at,
        _,
    ):
        here = urlsplit(at)
        own = ask(here, "/v1/corrections", "POST", b"form", Origin=f"http://{here.netloc}", **form)[0]
        foreign = ask(here, "/v1/corrections", "POST", b"form", Origin="http://evil.example", **form)[0]
        nowhere = ask(here, "/v1/corrections", "POST", b"form", Origin="http://[", **form)[0]
        endless = ask(here, "/v1/corrections", "POST", b"", Content_Length=str(kiosk.LARGEST_FORM_BYTES + 1))[0]
        other = ask(here, "/v1/classify", "POST", b"form", **form)[0]
        ready = ask(here, "/v2/health/ready")[0]

    assert [one.status for one in (own, foreign, nowhere, endless, other, ready)] == [201, 403, 403, 403, 404, 200]
    assert collector.kept == [("multipart/form-data; boundary=b", b"form", "Bearer t")]


def test_service_that_is_away_is_a_bad_gateway_and_none_is_not_found(page, server):
    with serving("--page", page, "--bundle", REFERENCE, "--port", 0, "--service", "http://127.0.0.1:9") as (address, _):
        assert ask(urlsplit(address), "/v2/health/ready")[0].status == 502

    assert ask(server, "/v2/health/ready")[0].status == 404


def test_server_ends_when_it_is_told_to(page):
    with serving("--page", page, "--bundle", REFERENCE, "--port", 0) as (_, process):
        process.send_signal(signal.SIGTERM)

        assert process.wait(30) == 0


def test_connections_beyond_the_limit_are_closed_and_the_others_go_on(page, monkeypatch):
    monkeypatch.setattr(kiosk, "CONNECTIONS", 2)
    with kiosk.Server(("127.0.0.1", 0), site.Site(page, REFERENCE, page)) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        here = urlsplit(f"http://127.0.0.1:{server.server_address[1]}")
        held = [http.client.HTTPConnection(here.hostname, here.port, timeout=30) for _ in range(2)]
        for one in held:
            one.request("GET", "/icon.svg")
            assert one.getresponse().read()
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            ask(here, "/")
        held[0].request("GET", "/icon.svg")
        assert held[0].getresponse().status == 200
        for one in held:
            one.close()
        server.shutdown()


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"GET / HTTP/1.1\r\nX: ", id="head"),
        pytest.param(b"POST /v1/corrections HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n", id="body"),
    ],
)
def test_request_that_comes_byte_by_byte_is_ended(page, monkeypatch, start):
    monkeypatch.setattr(kiosk, "REQUEST_S", 1.0)
    monkeypatch.setattr(kiosk.Server, "hosts", None)
    with kiosk.Server(("127.0.0.1", 0), site.Site(page, REFERENCE, page)) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        with socket.create_connection(server.server_address, timeout=30) as client:
            client.sendall(start)
            sent = bytes_until_closed(client)
        server.shutdown()

    assert sent < 200  # of one every 50 ms: ten seconds


def bytes_until_closed(client):
    client.settimeout(0.05)
    for sent in range(200):
        with contextlib.suppress(TimeoutError):
            try:
                client.sendall(b"x")
                if not client.recv(1):
                    return sent
            except ConnectionError:
                return sent
    return 200


def test_file_does_not_wait_for_the_one_before_to_be_acknowledged(server):
    connection = http.client.HTTPConnection(server.hostname, server.port, timeout=30)
    times = []
    for _ in range(20):
        begun = time.monotonic()
        connection.request("GET", "/icon.svg")
        connection.getresponse().read()
        times.append(time.monotonic() - begun)
    connection.close()

    assert min(times[1:]) < 0.03


@pytest.fixture
def chosen(page, tmp_path):
    named = {"page": page, "bundle": REFERENCE, "slots": tmp_path, "index": None, "stock": None, "service": None}
    return Namespace(**named, key=None, out=tmp_path / "out", host="127.0.0.1", port=0)


def test_page_is_written_for_any_web_server(chosen, page, tmp_path):
    stock = tmp_path / "stock"
    shutil.copytree(ROOT / "examples", stock)
    chosen.stock = stock

    assert kiosk.run(chosen) == 0

    told = json.loads((chosen.out / "files.json").read_text(encoding="utf-8"))
    assert told == site.listed(page)
    assert (chosen.out / "bundle/model.onnx").read_bytes() == (REFERENCE / "model.onnx").read_bytes()
    assert (chosen.out / "stock/bag.png").is_file()
    assert not (chosen.out / "stock/verify.sh").exists()
    with pytest.raises(FileExistsError, match=r"is there already\. Name a new folder"):
        kiosk.run(chosen)


def test_page_that_was_written_is_served_beside_an_installed_wheel(chosen, tmp_path):
    kiosk.run(chosen)
    elsewhere = Namespace(**vars(chosen) | {"page": chosen.out, "out": tmp_path / "again"})

    assert kiosk.run(elsewhere) == 0

    assert (elsewhere.out / "files.json").read_bytes() == (chosen.out / "files.json").read_bytes()


def test_what_is_absent_or_no_address_is_one_line(chosen, tmp_path, capsys):
    cases = [
        (
            {"page": tmp_path},
            FileNotFoundError,
            r"There is no .*index\.html\. `make kiosk`.* here with --page FOLDER\.",
        ),
        ({"index": tmp_path / "no.safetensors"}, FileNotFoundError, r"There is no .*no\.safetensors"),
        ({"index": tmp_path / "shop.idx"}, ValueError, r"Expected an index named ….safetensors\. Received .*shop\.idx"),
        ({"service": "http://shop:99999"}, ValueError, "Port out of range"),
        ({"service": "shop"}, ValueError, r"Expected the service's address, http://HOST:PORT\. Received 'shop'"),
    ]
    for changes, error, said in cases:
        with pytest.raises(error, match=said):
            kiosk.run(Namespace(**vars(chosen) | changes))

    assert main(["kiosk", "--page", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_bundle_that_must_not_be_used_is_not_served(chosen, bundle_files, tmp_path):
    folders.fill(tmp_path / "bundle", bundle_files() | {"card.md": b"# Another"})

    with pytest.raises(ValueError, match=r"card\.md is altered"):
        kiosk.run(Namespace(**vars(chosen) | {"bundle": tmp_path / "bundle"}))


def test_page_asks_for_no_other_address():
    sources = [
        path.read_text(encoding="utf-8")
        for path in Path(ROOT / "kiosk").iterdir()
        if path.suffix in {".html", ".css", ".js"}
    ]
    code = "\n".join(
        line for source in sources for line in source.splitlines() if not line.lstrip().startswith(("//", "*", "/*"))
    )

    assert "://" not in code
