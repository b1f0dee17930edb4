"""A real HTTPS server on 127.0.0.1 stands in for the mirrors, a real repository of one package for Debian's."""

import datetime as dt
import gzip
import ipaddress
import logging
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
import tracemalloc
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tasks import ingest
from tasks.errors import DataError
from tasks.files import digest

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
SOURCES = ["folder", "debian", "zalando", "keras"]
PATH = os.environ["PATH"]


class Answer(NamedTuple):
    status: int
    body: bytes = b""
    length: int | None = None  # what the header says of the body, where it lies
    wait: threading.Event | None = None  # for this, before the body is sent
    retry_after: str = ""


class Server(NamedTuple):
    address: str
    answers: dict[str, list[Answer]]  # path → what is answered, in turn; the last is repeated
    asked: list[str]

    def offer(self, name, files):
        for file, content in files.items():
            self.answers[f"/{name}/{file}.gz"] = [Answer(200, gzip.compress(content))]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that vouches for itself, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(signed.public_bytes(pem) + secret)
    return path


@pytest.fixture
def server(certificate, monkeypatch):
    answers = defaultdict(lambda: [Answer(404)])
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            turns = answers[self.path]
            answer = turns.pop(0) if len(turns) > 1 else turns[0]
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(answer.body) if answer.length is None else answer.length))
            if answer.retry_after:
                self.send_header("Retry-After", answer.retry_after)
            self.end_headers()
            if answer.wait:
                self.wfile.flush()
                answer.wait.wait(5)
            self.wfile.write(answer.body)

        def log_message(self, *_arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        listening.socket = context.wrap_socket(listening.socket, server_side=True)
        listening.handle_error = lambda *_: None  # a client that hangs up is what some tests want
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Server(f"https://127.0.0.1:{listening.server_port}", answers, asked)
        listening.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def files(garments, write_raw, tmp_path_factory):
    """The right four files: name → content."""
    folder = tmp_path_factory.mktemp("right")
    write_raw(folder, garments(2, 1), garments(1, 2))
    return {name: (folder / name).read_bytes() for name in ingest.DIGESTS}


@pytest.fixture(autouse=True)
def only_here(server, files, monkeypatch, tmp_path):
    """Every source is on this machine, and none has anything yet."""
    monkeypatch.setattr(ingest, "DIGESTS", {name: digest(content) for name, content in files.items()})
    monkeypatch.setattr(ingest, "DEBIAN_FOLDER", tmp_path / "debian")
    monkeypatch.setattr(ingest, "ZALANDO", f"{server.address}/zalando")
    monkeypatch.setattr(ingest, "KERAS", f"{server.address}/keras")
    monkeypatch.setenv("PATH", str(tmp_path))  # no apt-get


@pytest.fixture
def params(numbers, tmp_path):
    return numbers.ingest.model_copy(update={"folder": str(tmp_path / "folder"), "attempts": 1, "timeout_s": 5})


@pytest.fixture
def raw(tmp_path):
    return tmp_path / "raw"


@pytest.fixture
def offer(server, tmp_path):
    """(source, files): puts files where that source is."""

    def put(source, files):
        if source in {"zalando", "keras"}:
            server.offer(source, files)
            return
        (tmp_path / source).mkdir()
        for name, content in files.items():
            (tmp_path / source / name).write_bytes(content)

    return put


@pytest.fixture
def fetched(params, raw, tmp_path):
    """Runs ingest; the rows of its summary: file → where it is from."""

    def run(params=params):
        ingest.run(params, raw, tmp_path / "ingest.md")
        rows = (tmp_path / "ingest.md").read_text(encoding="utf-8").splitlines()[2:]
        return {row.split(" | ")[0].strip("| "): row.split(" | ")[-1].strip("| ") for row in rows}

    return run


@pytest.fixture
def refused(params, raw, tmp_path):
    """Runs ingest, which must refuse; what it says, in one line."""

    def run(params=params):
        with pytest.raises(DataError, match=r"^Fashion-MNIST could not be had for [^\n]*$") as caught:
            ingest.run(params, raw, tmp_path / "ingest.md")
        return str(caught.value)

    return run


def content_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("first", SOURCES)
def test_sources_are_asked_in_order_and_the_first_right_one_does(files, offer, fetched, server, tmp_path, raw, first):
    having = SOURCES[SOURCES.index(first) :]
    for source in having:
        offer(source, files)
    places = {"zalando": ingest.ZALANDO, "keras": ingest.KERAS}

    origin = fetched()

    assert origin == dict.fromkeys(files, places.get(first, f"folder {tmp_path / first}"))
    assert content_of(raw) == files
    assert not [path for path in server.asked for later in having[1:] if path.startswith(f"/{later}/")]


def test_summary_states_size_digest_and_origin(files, offer, fetched, tmp_path):
    offer("folder", files)

    fetched()

    row = f"| {IMAGES} | 15,696 | {digest(files[IMAGES])[:12]}… | folder {tmp_path / 'folder'} |"
    assert row in (tmp_path / "ingest.md").read_text(encoding="utf-8").splitlines()


def test_folder_may_hold_gzipped_files(files, offer, fetched, raw):
    offer("folder", {f"{name}.gz": gzip.compress(content) for name, content in files.items()})

    assert set(fetched().values()) == {f"folder {raw.parent / 'folder'}"}
    assert content_of(raw) == files


def test_folder_may_be_given_from_home(files, offer, fetched, params, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    offer("folder", files)

    assert set(fetched(params.model_copy(update={"folder": "~/folder"})).values()) == {"folder ~/folder"}


def test_folder_that_is_not_named_is_not_asked(files, offer, fetched, params):
    offer("keras", files)

    fetched(params.model_copy(update={"folder": ""}))


def test_source_that_lacks_a_file_is_left_with_what_it_gave(files, offer, fetched, server, tmp_path):
    offer("folder", {IMAGES: files[IMAGES]})
    offer("keras", files)

    origin = fetched()

    assert origin == {**dict.fromkeys(files, ingest.KERAS), IMAGES: f"folder {tmp_path / 'folder'}"}
    assert server.asked[:2] == [f"/zalando/{LABELS}.gz", f"/keras/{LABELS}.gz"]


def wrong_contents(files):
    images, labels = files[IMAGES], files[LABELS]
    return {
        "plain MNIST's images": {IMAGES: images[:16] + bytes(reversed(images[16:]))},
        "labels shuffled": {LABELS: labels[:8] + bytes(reversed(labels[8:]))},
        "one bit": {IMAGES: images[:-1] + bytes([images[-1] ^ 1])},
        "cut": {IMAGES: images[:-1]},
        "empty": {LABELS: b""},
    }


@pytest.mark.parametrize("wrong", ["plain MNIST's images", "labels shuffled", "one bit", "cut", "empty"])
@pytest.mark.parametrize("source", ["folder", "zalando"])
def test_wrong_content_is_left_for_the_next_source(files, offer, fetched, raw, caplog, source, wrong):
    caplog.set_level(logging.INFO)
    ((name, content),) = wrong_contents(files)[wrong].items()
    offer(source, files | {name: content})
    offer("keras", files)

    origin = fetched()

    assert origin[name] == ingest.KERAS
    assert content_of(raw) == files
    assert f"{name}: this is not Fashion-MNIST's (SHA-256 {digest(content)[:12]}…)" in caplog.text


def test_gzip_with_any_byte_flipped_is_right_or_refused(files):
    packed = gzip.compress(files[LABELS])
    outcomes = set()
    for position in range(len(packed)):
        for flip in (0x01, 0x80, 0xFF) if position >= 10 else range(1, 256):  # every value for the ten of the header
            broken = packed[:position] + bytes([packed[position] ^ flip]) + packed[position + 1 :]
            try:
                outcomes.add(ingest._checked(LABELS, lambda _, broken=broken: ingest.unpack(broken)))
            except ingest.SourceError:
                outcomes.add("refused")

    assert outcomes == {"refused", files[LABELS]}


def test_gzip_cut_at_any_byte_is_refused(files):
    packed = gzip.compress(files[LABELS])
    for length in range(len(packed)):
        with pytest.raises(ingest.SourceError, match=f"^{LABELS}: "):
            ingest._checked(LABELS, lambda _, length=length: ingest.unpack(packed[:length]))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(Answer(404), "404", id="absent"),
        pytest.param(Answer(500), "too many 500", id="out of order"),
        pytest.param(Answer(200, b"<html>Sign in</html>"), "Not a gzipped file", id="a page for a file"),
        pytest.param(Answer(200, gzip.compress(b"abc")[:-4]), "ended before", id="gzip cut"),
        pytest.param(Answer(200, b"\x1f\x8b", length=9_999), "IncompleteRead", id="transfer broken"),
    ],
)
def test_source_that_fails_is_named_and_the_next_is_asked(files, offer, server, fetched, raw, caplog, answer, said):
    caplog.set_level(logging.INFO)
    offer("zalando", files)
    server.answers[f"/zalando/{LABELS}.gz"] = [answer]
    offer("keras", files)

    origin = fetched()

    assert origin == {**dict.fromkeys(files, ingest.KERAS), IMAGES: ingest.ZALANDO}
    assert content_of(raw) == files
    (line,) = [record.message for record in caplog.records if record.message.startswith(f"ingest: {ingest.ZALANDO}")]
    assert f"{LABELS}: " in line
    assert said in line


def test_silent_source_is_given_up(files, offer, server, fetched, params):
    enough = threading.Event()
    server.answers[f"/zalando/{IMAGES}.gz"] = [Answer(200, gzip.compress(files[IMAGES]), wait=enough)]
    offer("keras", files)

    origin = fetched(params.model_copy(update={"timeout_s": 0.2}))
    enough.set()

    assert origin[IMAGES] == ingest.KERAS


def test_source_that_recovers_is_asked_again(files, offer, server, fetched, params):
    offer("zalando", files)
    right = server.answers[f"/zalando/{IMAGES}.gz"]
    server.answers[f"/zalando/{IMAGES}.gz"] = [Answer(500), *right]

    origin = fetched(params.model_copy(update={"attempts": 2}))

    assert set(origin.values()) == {ingest.ZALANDO}
    assert server.asked[:3] == [f"/zalando/{IMAGES}.gz", f"/zalando/{IMAGES}.gz", f"/zalando/{LABELS}.gz"]


def test_source_is_asked_no_more_often_than_allowed(server, refused, params):
    server.answers[f"/zalando/{IMAGES}.gz"] = [Answer(503)]

    refused(params.model_copy(update={"attempts": 2}))

    assert server.asked == [f"/zalando/{IMAGES}.gz"] * 2 + [f"/keras/{IMAGES}.gz"]


def test_source_that_asks_for_an_hour_is_left(files, offer, server, fetched, params, monkeypatch):
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    server.answers[f"/zalando/{IMAGES}.gz"] = [Answer(429, retry_after="3600")]
    offer("keras", files)

    fetched(params.model_copy(update={"attempts": 2}))

    assert sum(slept) <= params.timeout_s


def test_source_that_refuses_connections_cannot_be_reached(refused, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(ingest, "ZALANDO", f"https://127.0.0.1:{closed.getsockname()[1]}")

        assert f"{ingest.ZALANDO}: {IMAGES}: cannot be reached; " in refused()


def test_source_that_refuses_connections_is_not_waited_for(refused, params, monkeypatch):
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(ingest, "ZALANDO", f"https://127.0.0.1:{closed.getsockname()[1]}")

        refused(params.model_copy(update={"attempts": 5}))

    assert slept == []


def test_source_that_no_one_vouches_for_is_not_trusted(files, offer, refused, monkeypatch):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    offer("zalando", files)

    assert f"{ingest.ZALANDO}: {IMAGES}: cannot be reached; " in refused()


def test_bomb_is_refused_before_it_fills_the_memory(monkeypatch):
    monkeypatch.setattr(ingest, "LARGEST_BYTES", 100_000)
    bomb = gzip.compress(bytes(20_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"^it unpacks to more than 100,000 bytes$"):
            ingest.unpack(bomb)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_largest_file_that_is_allowed_is_unpacked(monkeypatch):
    monkeypatch.setattr(ingest, "LARGEST_BYTES", 1000)

    assert ingest.unpack(gzip.compress(bytes(1000))) == bytes(1000)


def test_source_that_sends_too_much_is_left(files, offer, server, fetched, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(ingest, "LARGEST_BYTES", 200_000)
    noise = np.random.default_rng(1).bytes(400_000)
    server.answers[f"/zalando/{IMAGES}.gz"] = [Answer(200, gzip.compress(noise))]
    offer("keras", files)

    assert fetched()[IMAGES] == ingest.KERAS
    assert "it sends more than 200,000 bytes" in caplog.text


def test_refusal_names_every_source_its_answer_and_the_way_by_hand(files, server, refused, raw, tmp_path):
    message = refused()

    assert message == (
        f"Fashion-MNIST could not be had for {raw}. Tried: "
        f"folder {tmp_path / 'folder'}: {IMAGES}: not there; "
        f"folder {tmp_path / 'debian'}: {IMAGES}: not there; "
        f"{ingest.ZALANDO}: {IMAGES}: 404 Client Error: Not Found for url: {ingest.ZALANDO}/{IMAGES}.gz; "
        f"{ingest.KERAS}: {IMAGES}: 404 Client Error: Not Found for url: {ingest.KERAS}/{IMAGES}.gz. "
        f"By hand: put {', '.join(files)} (plain or .gz) into a folder, name it in params.yaml as ingest.folder, "
        "and run again."
    )
    assert not raw.exists()
    assert not (tmp_path / "ingest.md").exists()


def test_refusal_leaves_what_is_right_and_nothing_partial(files, offer, refused, raw):
    offer("folder", {IMAGES: files[IMAGES], LABELS: files[LABELS][:-1]})

    refused()

    assert content_of(raw) == {IMAGES: files[IMAGES]}


def test_right_file_is_kept_and_a_wrong_one_replaced(files, offer, fetched, server, raw):
    raw.mkdir()
    (raw / IMAGES).write_bytes(files[IMAGES])
    (raw / LABELS).write_bytes(files[LABELS][:-1])
    before = (raw / IMAGES).stat()
    offer("zalando", files)

    origin = fetched()

    assert (origin[IMAGES], origin[LABELS]) == ("already there", ingest.ZALANDO)
    assert ((raw / IMAGES).stat().st_mtime_ns, (raw / IMAGES).stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert content_of(raw) == files
    assert f"/zalando/{IMAGES}.gz" not in server.asked


def test_nothing_is_asked_when_all_is_there(files, fetched, server, raw):
    raw.mkdir()
    for name, content in files.items():
        (raw / name).write_bytes(content)

    assert set(fetched().values()) == {"already there"}
    assert server.asked == []


def test_fault_of_the_own_disk_is_not_blamed_on_a_source(files, offer, params, raw, server, tmp_path):
    raw.write_text("a file where the folder should be")
    offer("folder", files)

    with pytest.raises(FileExistsError, match="raw"):
        ingest.run(params, raw, tmp_path / "ingest.md")
    assert server.asked == []


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """apt-get with a repository on this disk, empty and not yet listed; (files) puts a package of them there."""
    monkeypatch.setenv("PATH", PATH)
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        pytest.skip("not Debian: there is no apt-get, and so no such source")
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "Packages").touch()
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] file:{folder} ./\n")
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "{tmp_path}/sources.list";\nDir::Etc::sourceparts "/dev/null";\n'
        f'Dir::State::lists "{tmp_path}/lists";\nDir::Cache "{tmp_path}/cache";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))

    def put(files):
        package, built = tmp_path / "package", folder / "package.deb"
        (package / "DEBIAN").mkdir(parents=True)
        control = "Package: dataset-fashion-mnist\nVersion: 1\nArchitecture: all\nMaintainer: a@b\nDescription: a\n"
        (package / "DEBIAN/control").write_text(control)
        inside = package / ingest.DEBIAN_FOLDER.relative_to("/")
        inside.mkdir(parents=True)
        for name, content in files.items():
            (inside / f"{name}.gz").write_bytes(gzip.compress(content))
        subprocess.run(["dpkg-deb", "--build", package, built], check=True, capture_output=True)
        content = built.read_bytes()
        (folder / "Packages").write_text(
            f"{control}Filename: ./package.deb\nSize: {len(content)}\nSHA256: {digest(content)}\n\n"
        )

    return put


def test_debian_package_is_the_last_source(repository, files, fetched, server, raw):
    repository(files)

    assert fetched() == dict.fromkeys(files, "apt-get download dataset-fashion-mnist")
    assert content_of(raw) == files
    assert server.asked == [f"/zalando/{IMAGES}.gz", f"/keras/{IMAGES}.gz"]


def test_debian_package_is_fetched_once_for_all_files(repository, files, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    repository(files)
    folder = ingest.unpacked_package(scratch)
    next(scratch.glob("*.deb")).unlink()

    assert ingest.unpacked_package(scratch) == folder


def test_debian_package_that_does_not_exist_is_said(repository, refused):
    answer = (
        f"apt-get download dataset-fashion-mnist: {IMAGES}: E: Unable to locate package dataset-fashion-mnist. By hand"
    )

    assert answer in refused()
