"""The page without a network, a server or its worker: it says so, works on, and is whole again by itself."""

import contextlib
import shutil

import pytest

from tasks import folders
from tests.browsing import (
    CHROMIUM,
    FLAGS,
    READY_MS,
    REFERENCE,
    answer,
    give,
    kept,
    needs_chromium,
    serving,
    state,
    until,
)
from tests.conftest import ROOT

pytest_plugins = ["tests.browsing"]
pytestmark = [pytest.mark.slow, needs_chromium]
BAG = (ROOT / "examples/bag.png").read_bytes()
SAMPLE = '[data-sample="bag.png"]'
CALM = "?idle=3600"  # where minutes pass by the clock: nobody is to be taken for gone


def later(page, seconds):
    """Moves the clock of the page, not of its workers."""
    page.clock.fast_forward(seconds * 1000)


def test_cut_network_is_said_and_the_page_works_on_and_loads_anew(visit, address):
    page = visit(address)
    kept(page)
    assert page.is_hidden("#offline")

    page.context.set_offline(True)

    page.wait_for_selector("#offline:not([hidden])")
    page.click(SAMPLE)
    assert answer(page) == "Bag"
    page.reload()
    page.wait_for_selector("body[data-ready]")
    page.wait_for_selector("#offline:not([hidden])")
    give(page, "bag.png", BAG)
    assert answer(page) == "Bag"
    assert page.is_hidden("#notice")
    page.evaluate("addEventListener('online', () => (globalThis.again = document.getElementById('offline').hidden))")
    page.context.set_offline(False)
    until(page, "globalThis.again")  # at once; whether the server answers as well is found out after it
    page.wait_for_selector("#offline", state="hidden")


def test_page_finds_the_server_that_was_started_again_and_its_new_bundle(visit, whole_page, bundle_files, tmp_path):
    """B1: nobody touches the page; what it does each minute is enough."""
    place = tmp_path / "bundle"
    folders.fill(place, bundle_files(1))
    with serving("--page", whole_page, "--bundle", place, "--port", 0) as (found, process):
        page = visit(found + CALM)
        kept(page)
        page.clock.install()
        page.reload()
        page.wait_for_selector("body[data-ready='1']")
        process.kill()
        process.wait(30)
        later(page, 60)
        page.wait_for_selector("#offline:not([hidden])")
    shutil.rmtree(place)
    folders.fill(place, bundle_files(2))
    port = found.rstrip("/").rpartition(":")[2]
    with serving("--page", whole_page, "--bundle", place, "--port", port):
        later(page, 60)

        page.wait_for_selector("body[data-ready='2']")
        page.wait_for_selector("#offline", state="hidden")
        assert page.is_hidden("#notice")


CRASHES = "setTimeout(() => { throw new Error('gone'); })"
HANGS = "for (;;);"
AT_ONCE = f"""document.querySelector('{SAMPLE}').click()"""  # while the model is opened anew


@pytest.mark.parametrize(
    ("fault", "patience_s", "said"),
    [pytest.param(CRASHES, 0, "worker-broken", id="crashes"), pytest.param(HANGS, 60, "worker-slow", id="hangs")],
)
def test_worker_that_fails_over_a_picture_is_said_and_the_next_is_answered(visit, address, fault, patience_s, said):
    page = visit(address + CALM)
    page.clock.install()
    (worker,) = page.workers
    worker.evaluate(f"void (self.createImageBitmap = () => new Promise(() => {{ {fault} }}))")

    give(page, "bag.png", BAG)

    later(page, patience_s)
    assert state(page) == said
    assert page.is_hidden("#working")
    page.evaluate(AT_ONCE)
    page.wait_for_selector("body[data-answer], #notice:not([hidden])")
    assert page.is_hidden("#notice")
    assert answer(page) == "Bag"
    for _ in range(100):  # the browser takes its time to end one that hangs
        if worker in page.workers:
            page.wait_for_timeout(100)
    assert worker not in page.workers


def test_picture_before_the_model_is_there_is_said(visit, address):
    page, held = visit(address), []

    def hold(route):
        held.append(route)

    page.route("**/bundle/manifest.json", hold)
    page.reload()

    page.click(SAMPLE)

    assert state(page) == "model-waiting"
    for one in held:
        one.continue_()
    page.unroute_all()
    page.wait_for_selector("body[data-ready]")
    page.click(SAMPLE)
    assert answer(page) == "Bag"
    assert page.is_hidden("#notice")


def test_missing_runtime_is_said_and_taken_when_it_is_there(visit, whole_page, tmp_path):
    folder, name = tmp_path / "kiosk", "vendor/ort.wasm.bundle.min.mjs"
    shutil.copytree(whole_page, folder)
    with serving("--page", folder, "--bundle", REFERENCE, "--port", 0) as (found, _):
        (folder / name).unlink()
        page = visit(found, ready=False)
        assert state(page) == "runtime-absent"
        shutil.copy(whole_page / name, folder / name)

        page.wait_for_selector("body[data-ready]")

        assert page.is_hidden("#notice")
        page.click(SAMPLE)
        assert answer(page) == "Bag"


def test_page_can_be_installed(playwright, whole_page, tmp_path):
    """Chromium's own opinion; a private window, as other tests have, installs nothing."""
    with (
        serving("--page", whole_page, "--bundle", REFERENCE, "--port", 0) as (found, _),
        contextlib.closing(
            playwright.chromium.launch_persistent_context(tmp_path, executable_path=CHROMIUM, args=[*FLAGS])
        ) as context,
    ):
        page = context.pages[0]
        page.goto(found)
        page.wait_for_selector("body[data-ready]", timeout=READY_MS)
        chrome = context.new_cdp_session(page)

        assert chrome.send("Page.getInstallabilityErrors") == {"installabilityErrors": []}
        manifest = chrome.send("Page.getAppManifest")
        assert manifest["errors"] == []
        assert manifest["manifest"]["startUrl"] == found
        for icon in manifest["manifest"]["icons"]:
            assert page.request.get(icon["url"]).headers["content-type"] == icon["type"]
