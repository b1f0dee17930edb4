"""Pictures that were put right: kept whole, once, of known kinds, and not without end."""

import hashlib
import os
import resource
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from PIL import Image

from seamline.service import corrections
from seamline.service.corrections import Limits
from seamline.service.refusals import Refused
from tests.conftest import ROOT
from tests.serving import running

REFERENCE = ROOT / "seamline/reference"
BAG = (ROOT / "examples/bag.png").read_bytes()


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "incoming"
    with running("--model", REFERENCE, "--corrections", folder) as found:
        found.folder = folder
        yield found


def correct(service, picture, kind="Bag", **others):
    form = {"picture": ("../../evil.php", picture), "kind": (None, kind)} | others
    return requests.post(f"{service.url}/v1/corrections", files=form, timeout=60)


@pytest.mark.parametrize(("kind", "folder"), [("Ankle boot", "ankle-boot"), ("T-shirt/top", "t-shirt-top")])
@pytest.mark.parametrize(("format_", "suffix"), [("JPEG", ".jpg"), ("PNG", ".png"), ("WEBP", ".webp"), ("GIF", ".gif")])
def test_correction_is_kept_once_under_its_kind_and_digest(service, tmp_path, kind, folder, format_, suffix):
    Image.new("RGB", (40, 40), "red").save(tmp_path / "picture", format_)
    picture = (tmp_path / "picture").read_bytes()

    first, again = correct(service, picture, kind), correct(service, picture, kind)

    assert (first.status_code, first.json()) == (201, {"kept": True, "kind": kind})
    assert (again.status_code, again.json()) == (200, {"kept": False, "kind": kind})
    kept = service.folder / folder / (hashlib.sha256(picture).hexdigest() + suffix)
    assert kept.read_bytes() == picture
    assert not [path for path in service.folder.rglob("*") if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("picture", "kind", "reason"),
    [
        pytest.param(b"<?php", "Bag", "The picture is not kept: not a picture", id="no picture"),
        pytest.param(BAG[:100], "Bag", "The picture is not kept: not a picture", id="cut short"),
        pytest.param(BAG, "bag", "Expected a kind among T-shirt/top,", id="in small letters"),
        pytest.param(BAG, "unknown", "Expected a kind among", id="unknown"),
        pytest.param(BAG, "../Bag", "Expected a kind among", id="a path"),
        pytest.param(BAG, "", "Expected a kind among", id="none"),
    ],
)
def test_what_is_no_correction_is_not_kept(service, picture, kind, reason):
    before = sorted(service.folder.rglob("*"))

    refused = correct(service, picture, kind)

    assert refused.status_code == 422
    assert reason in refused.json()["error"]
    assert sorted(service.folder.rglob("*")) == before


def test_form_without_a_kind_and_a_bare_picture_are_refused(service):
    without = requests.post(f"{service.url}/v1/corrections", files={"picture": BAG}, timeout=60)
    bare = service.post("/v1/corrections", BAG, **{"Content-Type": "image/png"})

    assert (without.status_code, without.json()["error"]) == (
        422,
        "Expected a field 'kind' in the form. Received none.",
    )
    assert bare.status_code == 415


def test_correction_cannot_be_sent_by_another_sites_form(service):
    refused = requests.post(
        f"{service.url}/v1/corrections",
        files={"picture": BAG, "kind": (None, "Bag")},
        headers={"Origin": "https://evil.example"},
        timeout=60,
    )

    assert refused.status_code == 403


@pytest.mark.parametrize(
    ("limits", "status", "reason"),
    [
        pytest.param(Limits(pictures=1), 507, "take those that are there first", id="pictures"),
        pytest.param(Limits(size_bytes=2 * len(BAG) - 1), 507, "take those that are there first", id="bytes"),
        pytest.param(Limits(daily_pictures=1), 429, "No more corrections are kept today.", id="pictures of a day"),
        pytest.param(Limits(daily_bytes=2 * len(BAG) - 1), 429, "are kept today", id="bytes of a day"),
    ],
)
def test_corrections_end_at_each_limit(tmp_path, limits, status, reason):
    other = BAG + b"\0"
    assert corrections.keep(tmp_path, BAG, "Bag", limits)

    with pytest.raises(Refused, match=reason) as refused:
        corrections.keep(tmp_path, other, "Bag", limits)

    assert refused.value.status == status
    assert not corrections.keep(tmp_path, BAG, "Bag", limits)  # it is there


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "not kept"])
def test_service_says_whether_corrections_are_kept(tmp_path, kept):
    with running("--model", REFERENCE, *(["--corrections", tmp_path] if kept else [])) as service:
        told = [service.get(path).json() for path in ("/v2/health/ready", "/v2/models/seamline/ready")]

    assert told == [{"ready": True, "corrections": kept}] * 2


def test_yesterdays_corrections_do_not_count_for_today(tmp_path):
    limits = Limits(daily_pictures=1)
    corrections.keep(tmp_path, BAG, "Bag", limits)
    (kept,) = tmp_path.rglob("*.png")
    os.utime(kept, (time.time() - corrections.DAY_S - 60,) * 2)

    assert corrections.keep(tmp_path, BAG + b"\0", "Bag", limits)


def test_disk_that_is_full_is_507_and_leaves_nothing_behind(tmp_path):
    with running("--model", REFERENCE, "--corrections", tmp_path / "incoming") as service:
        for worker in service.workers():
            resource.prlimit(worker, resource.RLIMIT_FSIZE, (100, 100))
        refused = correct(service, BAG)
        answered = service.post("/v1/classify", BAG)

    assert refused.status_code == 507
    assert "The picture could not be kept: " in refused.json()["error"]
    assert answered.status_code == 200
    assert [path for path in (tmp_path / "incoming").rglob("*") if path.is_file()] == []


def test_leftover_of_a_killed_worker_counts_for_nothing_and_goes(tmp_path):
    left = tmp_path / "bag" / f"{corrections.TEMPORARY}{'0' * 64}.png"
    left.parent.mkdir()
    left.write_bytes(BAG)

    assert corrections.keep(tmp_path, BAG, "Bag", Limits(pictures=1, size_bytes=len(BAG)))
    assert not left.exists()


def test_kill_as_a_picture_is_kept_leaves_it_whole_or_not_there(tmp_path):
    """Its end makes it large, so that writing takes a while."""
    sent = [BAG + bytes([number]) + bytes(8 * 2**20) for number in range(8)]
    answers = []
    with running("--model", REFERENCE, "--corrections", tmp_path, "--workers", "1") as service:
        with ThreadPoolExecutor(1) as pool:
            for number, picture in enumerate(sent):
                (worker,) = service.workers()
                digest = hashlib.sha256(picture).hexdigest()
                begun = tmp_path / "bag" / f"{corrections.TEMPORARY}{digest}.png"
                answer = pool.submit(correct, service, picture)
                while not (answer.done() or begun.exists()):
                    time.sleep(0)
                time.sleep(0.02 * number)
                os.kill(worker, signal.SIGKILL)
                answers.append(answer.result().status_code)
                while not service.post("/v1/classify", BAG).ok:
                    pass
        last = correct(service, BAG)

    kept = {path.stem for path in tmp_path.rglob("*") if path.is_file()}
    assert {hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.rglob("*.png")} == kept
    assert kept >= {hashlib.sha256(one).hexdigest() for one, code in zip(sent, answers, strict=True) if code == 201}
    assert {201, 422} == set(answers)
    assert last.status_code == 201
