"""The page in a real Chromium, driven by Playwright; what cannot be had is a reason to skip."""

import contextlib
import http.server
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.golden import REFERENCE

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = ("--no-sandbox", "--host-resolver-rules=MAP shop.test 127.0.0.1")
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
AXE = "axe-core@4.14.1"
READY_MS = 120_000  # a model is fetched, compiled and proved, on a machine with other work
NPM = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-save")

needs_node = pytest.mark.skipif(
    not shutil.which("node"), reason="Node.js is not installed. Debian: apt-get install nodejs"
)
needs_chromium = pytest.mark.skipif(
    not Path(CHROMIUM).is_file(), reason="Chromium is not installed. Debian: apt-get install chromium"
)


def fetching(*command, cwd):
    """Runs what needs npm and a network. Where they are absent is no fault of the page's: skipped, but not in CI."""
    absent = pytest.fail if os.environ.get("CI") else pytest.skip
    if not shutil.which("npm"):
        absent("npm is not installed. Debian: apt-get install npm")
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=240)
    if done.returncode:
        absent(f"{' '.join(command[:2])}: {done.stderr.strip().splitlines()[-1:]}")


def give(page, name, content, kind="image/png"):
    """A file, as a person chooses it."""
    page.set_input_files("#file", {"name": name, "mimeType": kind, "buffer": content})


def encoded(picture, kind="PNG", **options):
    """The bytes of a picture's file."""
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return content.getvalue()


@pytest.fixture(scope="session")
def whole_page(tmp_path_factory):
    """The folder kiosk/ as `make kiosk` completes it."""
    project = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "Makefile", project)
    shutil.copytree(ROOT / "examples", project / "examples")
    shutil.copytree(ROOT / "kiosk", project / "kiosk", ignore=shutil.ignore_patterns("vendor", "samples"))
    if (ROOT / "kiosk/vendor/ort-wasm-simd-threaded.wasm").is_file():  # made by that very command
        for name in ("vendor", "samples"):
            shutil.copytree(ROOT / "kiosk" / name, project / "kiosk" / name)
        return project / "kiosk"
    fetching("make", "kiosk", cwd=project)
    return project / "kiosk"


@pytest.fixture(scope="session")
def axe(tmp_path_factory):
    """The source of axe-core."""
    folder = tmp_path_factory.mktemp("axe")
    fetching("npm", "install", *NPM, AXE, cwd=folder)
    return (folder / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")


@contextlib.contextmanager
def serving(*arguments, **environment):
    """`seamline kiosk ARGUMENTS` as a process of its own: its address, and the process."""
    command = [sys.executable, "-m", "seamline", "kiosk", *(str(word) for word in arguments)]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            said = process.stdout.readline()
            assert said.startswith("http://"), process.stderr.read()
            yield said.split()[0], process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


@pytest.fixture(scope="module")
def address(whole_page):
    """Where the page with the bundle in git is served."""
    with serving("--page", whole_page, "--bundle", REFERENCE, "--port", 0) as (found, _):
        yield found


@pytest.fixture(scope="module")
def playwright():
    """For one module: while it is there, an event loop runs in this thread, which other tests would stumble over."""
    if not Path(CHROMIUM).is_file():
        pytest.skip("Chromium is not installed. Debian: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="module")
def chromium(playwright):
    """With a camera that shows a moving picture, and is granted."""
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *CAMERA])
    yield browser
    browser.close()


@pytest.fixture
def visit(chromium):
    """(address, and of the context) → a page; contexts end with the test, and no page may have thrown."""
    contexts, thrown = [], []

    def opened(address, *, ready=True, browser=chromium, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(READY_MS)
        page.on("pageerror", lambda error: thrown.append(str(error)))
        page.on("console", lambda said: thrown.append(said.text) if "Content Security Policy" in said.text else None)
        page.goto(address)
        if ready:
            page.wait_for_selector("body[data-ready]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert thrown == []


def answer(page):
    """What the page says of the picture that was just given to it."""
    page.wait_for_selector("body[data-answer]")
    return page.inner_text("#named")


def until(page, expression):
    """Polled from outside: the page's policy forbids what Playwright's own `wait_for_function` does inside it."""
    deadline = time.monotonic() + READY_MS / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(50)


def filmed(page):
    """Waits until the camera's picture is shown and can be taken; the browser has it a little before."""
    until(page, "!document.getElementById('capture').hidden && document.getElementById('video').videoWidth > 0")


def kept(page):
    """Waits until the page would come without a network, and nothing more is written of who began with which page."""
    until(page, "navigator.serviceWorker.getRegistration().then((worker) => worker?.active?.state === 'activated')")


def state(page):
    page.wait_for_selector("#notice:not([hidden])")
    return page.get_attribute("#notice", "data-state")


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes corrections as `seamline serve` does, or has a fault: tests/test_kiosk_corrections.py has the real one."""

    def do_GET(self):
        self.reply(200, b'{"ready": true, "corrections": true}')

    def do_POST(self):
        body, kind = self.rfile.read(int(self.headers.get("Content-Length", 0))), self.headers.get("Content-Type")
        if not (kind or "").startswith("multipart/form-data"):
            return self.reply(415)
        self.server.kept.append((kind, body, self.headers.get("Authorization")))
        return self.reply(self.server.status)

    def reply(self, status, content=b"{}"):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def collector():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as found:
        found.kept, found.status = [], 201
        threading.Thread(target=found.serve_forever, args=(0.05,), daemon=True).start()
        yield found
        found.shutdown()
