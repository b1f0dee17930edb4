"""What the page keeps: bundles, itself, the stock, whatever becomes of the server or of a newer page."""

import contextlib
import json
import os
import shutil
import signal
import threading

import onnx
import pytest
from PIL import Image

from seamline import Classifier, bundle, kiosk, likeness, site
from tasks import folders
from tasks.bundle import manifest_of
from tests import golden
from tests.browsing import (
    CHROMIUM,
    FLAGS,
    READY_MS,
    REFERENCE,
    answer,
    encoded,
    give,
    kept,
    needs_chromium,
    serving,
    state,
    until,
)

pytest_plugins = ["tests.browsing"]
pytestmark = [pytest.mark.slow, needs_chromium]


def resealed(files, version):
    """The files of a bundle, altered, with a manifest that vouches for them."""
    facts = {"classes": json.loads(files[bundle.MANIFEST])["classes"], "metrics": {}}
    others = {name: content for name, content in files.items() if name != bundle.MANIFEST}
    return others | {bundle.MANIFEST: manifest_of(version, facts, others)}


def reference_files():
    return {path.name: path.read_bytes() for path in REFERENCE.iterdir()}


def test_first_visit_fetches_the_runtime_at_once_and_the_page_again_at_last(visit, whole_page, tmp_path, monkeypatch):
    """The manifest waits for the runtime here: who fetches that one after the model never gets there."""
    asked, whole, runtime = [], kiosk.Handler._send, threading.Event()

    def send(handler, file):
        asked.append(file.name)
        if file.suffix == ".wasm":
            runtime.set()
        if file.name == bundle.MANIFEST:
            runtime.wait(7)  # the page's patience is eight seconds
            asked.append("runtime" if runtime.is_set() else "no runtime")
        whole(handler, file)

    monkeypatch.setattr(kiosk.Handler, "_send", send)
    with kiosk.Server(("127.0.0.1", 0), site.Site(whole_page, REFERENCE, tmp_path)) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        page = visit(f"http://127.0.0.1:{server.server_address[1]}/")
        kept(page)
        server.shutdown()

    assert "no runtime" not in asked
    assert asked.index("sw.js") > asked.index(bundle.MODEL)


def test_index_that_is_made_anew_is_taken_by_an_open_page(visit, whole_page, tmp_path):
    """After an update of the bundle the old index fits no longer; the new one comes when somebody has made it."""
    place, shop = tmp_path / "bundle", tmp_path / "shop.safetensors"
    files, images = reference_files(), golden.garments()[:3]
    folders.fill(place, files)
    picture = encoded(Image.fromarray(images[0]))

    def remade(name):
        classifier = Classifier(place)
        names = [name, "b.png", "c.png"]
        likeness.write(shop, likeness.Index(names, classifier.embed(images), classifier.digest))

    remade("first.png")
    with serving("--page", whole_page, "--bundle", place, "--port", 0, "--index", shop) as (found, _):
        page = visit(found)

        def stocked():
            page.evaluate("seamline.prepare()")
            page.evaluate("document.getElementById('again').click()")
            give(page, "x.png", picture)
            answer(page)
            return page.locator("#stock .name").all_inner_texts()[:1]

        assert stocked() == ["first"]
        other = onnx.load_from_string(files[bundle.MODEL])
        other.metadata_props.add(key="made", value="later")
        shutil.rmtree(place)
        folders.fill(place, resealed(files | {bundle.MODEL: other.SerializeToString()}, 4))
        assert stocked() == []
        remade("second.png")
        assert stocked() == ["second"]


def test_page_works_on_when_the_server_is_killed_and_recovers(visit, whole_page):
    """B1 and B4: said, loaded anew without a server, and back by itself."""
    with serving("--page", whole_page, "--bundle", REFERENCE, "--port", 0) as (found, process):
        page = visit(found)
        kept(page)
        process.kill()
        process.wait(30)
        page.reload()
        page.wait_for_selector("body[data-ready]")
        page.wait_for_selector("#offline:not([hidden])")
        page.click('[data-sample="bag.png"]')
        assert answer(page) == "Bag"
    port = found.rstrip("/").rpartition(":")[2]
    with serving("--page", whole_page, "--bundle", REFERENCE, "--port", port):
        page.evaluate("seamline.prepare()")
        page.wait_for_selector("#offline", state="hidden")


def broken_off(handler, file):
    """Half of it: what a reset or a time limit leaves."""
    content = file.read_bytes()
    handler._head(200, {"Content-Type": "application/octet-stream", "Content-Length": str(len(content))})
    handler.wfile.write(content[: len(content) // 2])
    handler.close_connection = True


@pytest.mark.parametrize("name", [bundle.MANIFEST, bundle.MODEL])
def test_bundle_that_breaks_off_midway_leaves_the_one_that_was_kept(visit, whole_page, tmp_path, monkeypatch, name):
    """B1: of a newer bundle only half comes, and the page is loaded anew."""
    place, files, whole = tmp_path / "bundle", reference_files(), kiosk.Handler._send
    folders.fill(place, files)
    with kiosk.Server(("127.0.0.1", 0), site.Site(whole_page, place, tmp_path)) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        page = visit(f"http://127.0.0.1:{server.server_address[1]}/")
        shutil.rmtree(place)
        folders.fill(place, resealed(files | {bundle.GOLDEN: files[bundle.GOLDEN] + b"\n"}, 4))
        monkeypatch.setattr(
            kiosk.Handler, "_send", lambda self, file: (broken_off if file.name == name else whole)(self, file)
        )

        page.reload()

        page.wait_for_selector("body[data-ready]")
        assert page.inner_text("#version") == f"Model version {bundle.read(REFERENCE).version}"
        assert page.is_visible("#offline")
        server.shutdown()


def test_browser_that_is_killed_comes_back_without_a_server(playwright, whole_page, tmp_path):
    """B6."""

    def opened():
        return playwright.chromium.launch_persistent_context(tmp_path, executable_path=CHROMIUM, args=[*FLAGS])

    with serving("--page", whole_page, "--bundle", REFERENCE, "--port", 0) as (found, _):
        context = opened()
        page = context.pages[0]
        page.goto(found)
        page.wait_for_selector("body[data-ready]", timeout=READY_MS)
        kept(page)
        page.wait_for_timeout(1000)
        lock = str((tmp_path / "SingletonLock").readlink())
        os.kill(int(lock.rpartition("-")[2]), signal.SIGKILL)
        with contextlib.suppress(Exception):
            context.close()
    context = opened()
    with contextlib.closing(context):
        page = context.pages[0]
        page.goto(found)
        page.wait_for_selector("body[data-ready]", timeout=READY_MS)
        page.click('[data-sample="bag.png"]')
        assert answer(page) == "Bag"


def test_new_bundle_is_taken_and_one_that_fails_leaves_the_old_one(visit, whole_page, tmp_path):
    """B5, B7 and E3: an open page takes a newer bundle, but none that is altered, answers wrongly or is of another format."""
    files, place = reference_files(), tmp_path / "bundle"
    vectors = json.loads(files[bundle.GOLDEN])
    wrong = json.dumps(vectors | {"images": vectors["images"][::-1]}).encode()
    later = json.loads(files[bundle.MANIFEST]) | {"format": 2}
    folders.fill(place, files)
    with serving("--page", whole_page, "--bundle", place, "--port", 0) as (found, _):
        page = visit(found)

        def put(new):
            shutil.rmtree(place)
            folders.fill(place, new)
            page.evaluate("seamline.prepare()")
            return page.inner_text("#version")

        assert page.inner_text("#version") == f"Model version {bundle.read(REFERENCE).version}"
        assert (
            put(resealed(files | {"card.md": b"# Four", bundle.GOLDEN: files[bundle.GOLDEN] + b"\n"}, 4))
            == "Model version 4, new"
        )
        for spoilt, said in (
            (resealed(files | {bundle.GOLDEN: wrong}, 5), "model-wrong"),
            (resealed(files | {bundle.MODEL: b"no model"}, 5), "model-broken"),
            (resealed(files, 5) | {bundle.MODEL: files[bundle.MODEL][:-1] + b"\0"}, "bundle-broken"),
            (files | {bundle.MANIFEST: json.dumps(later).encode()}, "bundle-format"),
            ({"card.md": b""}, "bundle-absent"),
        ):
            assert put(spoilt) == "Model version 4, new"
            assert state(page) == said
        page.click('[data-sample="bag.png"]')
        assert answer(page) == "Bag"
        page.click("#again")
        assert page.inner_text("#version") == "Model version 4"


HELD_BACK = """() => {
  const load = seamline.thinker.load.bind(seamline.thinker);
  const asked = new Promise((done) => (globalThis.fetched = done));
  seamline.thinker.load = () => asked.then(load);
}"""


@pytest.fixture
def damaged(visit, whole_page, tmp_path):
    """A page whose first bundle is damaged, and what mends that bundle."""
    files, place = reference_files(), tmp_path / "bundle"
    folders.fill(place, files)
    with serving("--page", whole_page, "--bundle", place, "--port", 0) as (found, _):
        (place / bundle.MODEL).write_bytes(files[bundle.MODEL][:-1] + b"\0")
        page = visit(found, ready=False)
        assert state(page) == "bundle-broken"
        yield page, lambda: (place / bundle.MODEL).write_bytes(files[bundle.MODEL])


def test_damaged_first_bundle_is_said_again_at_a_tap(damaged):
    page, mend = damaged
    page.click("#notice-close")

    page.click('[data-sample="bag.png"]')

    assert state(page) == "bundle-broken"
    assert page.inner_text("#notice-action") == "Try again"
    mend()
    page.wait_for_selector("body[data-ready]")
    assert page.is_hidden("#notice")
    assert page.inner_text("#over") == "Ready"


def test_notice_that_the_model_is_being_fetched_goes_when_it_is_there(damaged):
    page, mend = damaged
    page.evaluate(HELD_BACK)
    page.click("#notice-action")
    page.click('[data-sample="bag.png"]')
    assert state(page) == "model-waiting"
    mend()

    page.evaluate("fetched()")

    page.wait_for_selector("body[data-ready]")
    assert page.is_hidden("#notice")


def test_bundle_that_failed_is_neither_opened_nor_announced_again(visit, whole_page, tmp_path):
    files, place = reference_files(), tmp_path / "bundle"
    vectors = json.loads(files[bundle.GOLDEN])
    wrong = json.dumps(vectors | {"images": vectors["images"][::-1]}).encode()
    folders.fill(place, files)
    with serving("--page", whole_page, "--bundle", place, "--port", 0) as (found, _):
        page = visit(found)
        shutil.rmtree(place)
        folders.fill(place, resealed(files | {bundle.GOLDEN: wrong}, 5))
        asked = []
        page.context.on("request", lambda request: asked.append(request.url))
        page.evaluate("seamline.prepare()")
        assert state(page) == "model-wrong"
        page.click("#notice-close")

        page.evaluate("seamline.prepare()")

        assert page.is_hidden("#notice")
        assert sum("golden.json" in url for url in asked) == 1
        page.click('[data-sample="bag.png"]')
        assert answer(page) == "Bag"


OPENED_AND_RELEASED = """async (wrong) => {
  const [{ Model }, ort] = await Promise.all(["model.js", "vendor/ort.wasm.bundle.min.mjs"].map((name) => import(location.origin + "/" + name)));
  const create = ort.InferenceSession.create;
  let open = 0;
  ort.InferenceSession.create = async (...asked) => {
    const session = await create.apply(ort.InferenceSession, asked);
    const release = session.release.bind(session);
    session.release = () => (open--, release());
    return open++, session;
  };
  const manifest = await (await fetch("bundle/manifest.json")).json();
  const model = new Uint8Array(await (await fetch("bundle/model.onnx")).arrayBuffer());
  const said = await Model.open({ manifest, files: { "model.onnx": model, "golden.json": new TextEncoder().encode(wrong) } }).catch(({ state }) => state);
  return [said, open];
}"""


def test_model_that_fails_its_proof_leaves_no_session_open(visit, address):
    vectors = json.loads((REFERENCE / bundle.GOLDEN).read_text(encoding="utf-8"))
    wrong = json.dumps(vectors | {"images": vectors["images"][::-1]})

    assert visit(address).evaluate(OPENED_AND_RELEASED, wrong) == ["model-wrong", 0]


def test_worker_that_cannot_load_is_not_started_without_end(visit, whole_page, tmp_path):
    part = tmp_path / "kiosk"
    shutil.copytree(whole_page, part, ignore=shutil.ignore_patterns("worker.js"))
    with serving("--page", part, "--bundle", REFERENCE, "--port", 0) as (found, _):
        page = visit(found, ready=False)
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.reload()
        page.wait_for_timeout(8_000)
        given_up = sum("worker.js" in url for url in asked)

        page.wait_for_timeout(4_000)

        assert state(page) == "worker-broken"
        assert sum("worker.js" in url for url in asked) == given_up
        # Three times; the page's service worker may ask once more for each, and the page before the reload have begun.
        assert 1 <= given_up <= 2 * 2 * 3


@pytest.fixture
def kept_page(visit, whole_page, tmp_path):
    """A page that its service worker keeps, and what puts a newer one behind it, which the worker looks for."""
    folder = tmp_path / "kiosk"
    shutil.copytree(whole_page, folder)

    def renew(**files):
        source = (folder / "index.html").read_text(encoding="utf-8")
        (folder / "index.html").write_text(
            source.replace("What have you got there?", "Anything new?"), encoding="utf-8"
        )
        for name, content in files.items():
            (folder / f"{name}.js").write_text(content, encoding="utf-8")
        page.evaluate("navigator.serviceWorker.controller.postMessage('look')")

    with serving("--page", folder, "--bundle", REFERENCE, "--port", 0) as (found, _):
        page = visit(found)
        kept(page)
        until(page, "Boolean(navigator.serviceWorker.controller)")
        yield page, renew


def test_old_page_takes_the_new_one_as_a_whole(kept_page):
    """B5: a newer page is fetched whole, and loaded when nobody is disturbed."""
    page, renew = kept_page

    renew()

    page.wait_for_selector("#title:has-text('Anything new?')")


def test_open_page_gets_no_file_of_a_newer_one(kept_page):
    """B5: somebody is at the old page, whose worker is started again after the new page has come."""
    page, renew = kept_page
    page.click('[data-sample="bag.png"]')  # a picture is shown: no moment for another page
    answer(page)

    renew(onnx="throw new Error('of the newer page')")
    page.wait_for_timeout(3000)

    version = "import(location.origin + '/thinker.js').then(({ Thinker }) => new Thinker().load())"
    assert page.evaluate(version)["version"] == page.evaluate("seamline.thinker.load()")["version"]
    page.click("#again")
    page.wait_for_selector("#title:has-text('Anything new?')")
