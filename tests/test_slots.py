"""Updating a device in place: the old model or the new one, never a mixture, whatever happens in between."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from seamline import bundle, slots
from seamline.bundle import BundleError
from tasks import folders
from tasks.files import digest
from tests.conftest import ROOT

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


@pytest.fixture
def made(tmp_path, bundle_files):
    """(version) → a signed bundle's folder."""

    def make(version):
        folder, files = tmp_path / f"bundle-{version}", bundle_files(version)
        folders.fill(folder, files | {bundle.SIGNATURE: KEY.sign(files[bundle.MANIFEST])})
        return folder

    return make


@pytest.fixture
def device(tmp_path, made):
    """A device on which version 1 serves and is confirmed."""
    slots.install(tmp_path / "slots", made(1), PUBLIC)
    slots.confirm(tmp_path / "slots")
    return tmp_path / "slots"


def serving(device):
    return slots.start(device, PUBLIC).info["version"]


def contents(device):
    return {str(path.relative_to(device)): path.read_bytes() for path in device.rglob("*") if path.is_file()}


def test_update_serves_and_rollback_takes_it_back(device, made):
    slots.install(device, made(2), PUBLIC)

    assert serving(device) == 2
    assert slots.rollback(device) == 1
    assert serving(device) == 1
    with pytest.raises(BundleError, match="no bundle to go back to"):
        slots.rollback(device)


def test_older_bundle_is_refused_also_after_a_rollback(device, made):
    slots.install(device, made(3), PUBLIC)
    slots.rollback(device)

    with pytest.raises(BundleError, match="its version is 2, and 3 is already here"):
        slots.install(device, made(2), PUBLIC)

    assert serving(device) == 1


def of_another_key(folder):
    sign = Ed25519PrivateKey.generate().sign
    (folder / bundle.SIGNATURE).write_bytes(sign((folder / bundle.MANIFEST).read_bytes()))


def altered(folder):
    content = bytearray((folder / bundle.MODEL).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / bundle.MODEL).write_bytes(content)


def fails_its_golden_vectors(folder):
    vectors = json.loads((folder / bundle.GOLDEN).read_text())
    vectors["probabilities"][0].reverse()
    content = json.dumps(vectors).encode()
    manifest = json.loads((folder / bundle.MANIFEST).read_text())
    manifest["files"][bundle.GOLDEN] = {"bytes": len(content), "sha256": digest(content)}
    (folder / bundle.GOLDEN).write_bytes(content)
    (folder / bundle.MANIFEST).write_text(json.dumps(manifest))
    (folder / bundle.SIGNATURE).write_bytes(KEY.sign((folder / bundle.MANIFEST).read_bytes()))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(of_another_key, "not the signature", id="of a foreign key"),
        pytest.param(lambda folder: (folder / bundle.SIGNATURE).unlink(), "is not signed", id="unsigned"),
        pytest.param(altered, "model.onnx is altered", id="altered"),
        pytest.param(fails_its_golden_vectors, "not installed: probabilities differ", id="fails its golden vectors"),
        pytest.param(shutil.rmtree, "cannot be read", id="absent"),
    ],
)
def test_bundle_that_must_not_be_used_leaves_the_old_one_serving(device, made, spoil, said):
    source = made(2)
    spoil(source)

    with pytest.raises(BundleError, match=said):
        slots.install(device, source, PUBLIC)

    assert serving(device) == 1


def test_three_starts_without_a_confirmation_take_the_update_back_for_good(device, made):
    slots.install(device, made(2), PUBLIC)

    assert [serving(device) for _ in range(6)] == [2, 2, 2, 1, 1, 1]


def test_confirmed_update_stays(device, made):
    slots.install(device, made(2), PUBLIC)
    slots.start(device, PUBLIC)
    slots.confirm(device)

    assert [serving(device) for _ in range(5)] == [2] * 5


def test_first_bundle_stays_though_nobody_confirms_it(tmp_path, made):
    slots.install(tmp_path / "slots", made(1), PUBLIC)

    assert [serving(tmp_path / "slots") for _ in range(5)] == [1] * 5


def test_broken_slot_leaves_the_other_one_serving(device, made):
    slots.install(device, made(2), PUBLIC)
    altered(device / slots.read(device).serving)

    assert serving(device) == 1


def test_both_slots_broken_is_said(device, made):
    slots.install(device, made(2), PUBLIC)
    for name in slots.NAMES:
        altered(device / name)

    with pytest.raises(
        BundleError, match=r"has no model that may serve\. .*altered.*altered.* Install one: seamline update"
    ):
        slots.start(device, PUBLIC)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"serving": "../etc"}', '{"unknown": 1}', '{"newest": "x"}'])
def test_broken_state_is_said(device, content):
    (device / slots.STATE).write_text(content)

    with pytest.raises(BundleError, match=r"state.json is broken\. Remove it"):
        slots.start(device, PUBLIC)


def test_nothing_installed_is_said(tmp_path):
    with pytest.raises(BundleError, match="has no model that may serve"):
        slots.start(tmp_path / "slots")


INSTALL = "import sys; from pathlib import Path; from seamline import slots; slots.install(Path(sys.argv[1]), Path(sys.argv[2]))"
ROLLBACK = "import sys; from pathlib import Path; from seamline import slots; slots.rollback(Path(sys.argv[1]))"
CALLS = "fsync,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir"


def traced(script, *arguments, log, inject=()):
    return subprocess.run(
        [
            "strace",
            "-f",
            "-qq",
            "-o",
            str(log),
            "-e",
            f"trace={CALLS}",
            *inject,
            sys.executable,
            "-c",
            script,
            *map(str, arguments),
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("what", ["update", "rollback"])
def test_kill_at_every_step_leaves_the_old_bundle_or_the_new_one(tmp_path, device, made, what):
    """SIGKILL as each system call that changes the disk begins; then the device starts, and the step is repeated."""
    if what == "rollback":
        slots.install(device, made(2), PUBLIC)
        slots.confirm(device)
    script, arguments = (INSTALL, (made(2),)) if what == "update" else (ROLLBACK, ())
    calls = tmp_path / "calls"
    trial = shutil.copytree(device, tmp_path / "trial")
    assert traced(script, trial, *arguments, log=calls).returncode == 0
    steps = Counter(re.findall(r"^\d+ +(\w+)\(", calls.read_text(), re.MULTILINE))
    assert steps["rename"] == 1
    for call, number in [(call, number) for call, count in steps.items() for number in range(1, count + 1)]:
        shutil.rmtree(trial)
        shutil.copytree(device, trial)
        kill = ("-e", f"inject={call}:signal=SIGKILL:when={number}")

        assert traced(script, trial, *arguments, log=calls, inject=kill).returncode == -9

        assert serving(trial) in {1, 2}, f"killed at {call} number {number}"
        if what == "update":
            slots.install(trial, *arguments, PUBLIC)
            assert serving(trial) == 2


@pytest.mark.slow
@pytest.mark.parametrize("error", ["ENOSPC", "EROFS"])
def test_disk_that_is_full_or_read_only_leaves_the_old_bundle_serving(tmp_path, device, made, error):
    inject = ("-e", f"inject=write,fsync,rename,mkdir,unlinkat:error={error}")

    done = traced(INSTALL, device, made(2), log=tmp_path / "calls", inject=("-e", f"trace=write,{CALLS}", *inject))

    assert done.returncode != 0
    assert serving(device) == 1
