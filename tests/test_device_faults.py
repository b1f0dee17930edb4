"""What happens to a device: full and read-only disks, wrong clocks, crashes, few processors, no network, lost keys.

The faults are real: a mount namespace whose disk is read-only or full, a wrong clock, a process that ends by SIGSEGV, a
network namespace that is empty.
"""

import os
import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from seamline import bundle, slots
from seamline.bundle import BundleError
from tasks import folders
from tests.conftest import ROOT

pytest_plugins = ["tests.clocks"]

OLD, NEW = (Ed25519PrivateKey.from_private_bytes(letter * 32) for letter in (b"o", b"n"))
EXAMPLE = ROOT / "examples/bag.png"
NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")


def public(key):
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


@pytest.fixture
def made(tmp_path, bundle_files):
    """(version, key) → the folder of a bundle signed with it."""

    def make(version, key=OLD):
        folder, files = tmp_path / f"bundle-{version}", bundle_files(version)
        folders.fill(folder, files | {bundle.SIGNATURE: key.sign(files[bundle.MANIFEST])})
        return folder

    return make


@pytest.fixture
def place(tmp_path, made):
    """A device on which version 2 is on trial and version 1 is behind it; the key is in old.pub."""
    for name, key in (("old", OLD), ("new", NEW)):
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (tmp_path / f"{name}.pub").write_bytes(pem)
    slots.install(tmp_path / "slots", made(1), public(OLD))
    slots.install(tmp_path / "slots", made(2), public(OLD))
    return tmp_path


def run(*command, cwd, **environment):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SEAMLINE_SLOTS": str(cwd / "slots")} | environment
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)


def seamline(*arguments, cwd, before=()):
    return run(*before, sys.executable, "-m", "seamline", *arguments, cwd=cwd)


def shell(command):
    """The arguments of the shell in a mount namespace, which runs a command of Seamline's behind its own."""
    return (*NAMESPACE, command + ' && exec "$@"', "sh")


# E5, E6


def test_both_slots_spoilt_is_one_line_of_the_command(place):
    for name in slots.NAMES:
        (place / "slots" / name / bundle.MODEL).write_bytes(b"spoilt")

    done = seamline("classify", EXAMPLE, "--key", "old.pub", cwd=place)

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "has no model that may serve." in done.stderr
    assert done.stderr.endswith("Install one: seamline update BUNDLE\n")


READ_ONLY = "mount --bind slots slots && mount -o remount,bind,ro slots && ! touch slots/x 2>/dev/null"
FULL = (
    "mkdir disk && mount -t tmpfs -o size=400k tmpfs disk && cp -r slots/. disk && mount --bind disk slots"
    " && ! cat /dev/zero > slots/filler 2>/dev/null"
)


@pytest.mark.parametrize("disk", [READ_ONLY, FULL], ids=["read-only", "full"])
def test_disk_that_cannot_be_written_serves_all_the_same(place, disk):
    done = seamline("classify", EXAMPLE, "--key", "old.pub", cwd=place, before=shell(disk))

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{EXAMPLE}: kind ")
    assert done.stderr == ""
    assert slots.read(place / "slots").starts == 0, "it was not counted, for it could not be"


@pytest.mark.parametrize("disk", [READ_ONLY, FULL], ids=["read-only", "full"])
def test_update_on_a_disk_that_cannot_be_written_is_one_line(place, made, disk):
    done = seamline("update", made(3), "--key", "old.pub", cwd=place, before=shell(disk))

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Read-only file system" in done.stderr or "No space left on device" in done.stderr
    assert slots.start(place / "slots", public(OLD)).info["version"] == 2


@pytest.mark.parametrize("moment", ["1970-01-02", "2038-01-20", "2100-01-01"])
def test_wrong_clock_changes_nothing(place, made, clock, moment):
    clock.set(datetime.fromisoformat(f"{moment}T12:00:00Z") - datetime.now(UTC))
    wrong = ("env", *(f"{name}={value}" for name, value in clock.environment.items()))
    day = run(*wrong, sys.executable, "-c", "import time; print(time.strftime('%F', time.gmtime()))", cwd=place)
    assert day.stdout == f"{moment}\n", "the clock is not wrong"

    update = seamline("update", made(3), "--key", "old.pub", cwd=place, before=wrong)
    done = seamline("classify", EXAMPLE, "--key", "old.pub", cwd=place, before=wrong)

    assert update.returncode == 0, update.stderr
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{EXAMPLE}: kind ")


# E7: the guide's loop around a program that crashes with the new model and not with the old one

PROGRAM = """
import os, signal, sys
from pathlib import Path
from seamline import pictures, slots
classifier = slots.start(Path("slots"), bytes.fromhex(sys.argv[1]))
with open("log", "a") as log:
    print(classifier.info["version"], file=log)
if classifier.info["version"] == 2:
    os.kill(os.getpid(), signal.SIGSEGV)
classifier.classify(pictures.read(sys.argv[2]))
slots.confirm(Path("slots"))
"""


def test_program_that_crashes_is_started_again_and_after_three_crashes_gets_the_old_model(place):
    (place / "kiosk.py").write_text(PROGRAM)
    loop = 'until "$@" 2>/dev/null; do tries=$((tries + 1)); [ $tries -lt 9 ] || exit 1; sleep 0; done'

    done = run("sh", "-c", loop, "sh", sys.executable, "kiosk.py", public(OLD).hex(), EXAMPLE, cwd=place)

    assert done.returncode == 0, done.stderr
    assert (place / "log").read_text().split() == ["2", "2", "2", "1"]
    assert slots.read(place / "slots").confirmed


def test_crash_while_a_picture_is_decoded_spoils_nothing(place):
    """SIGSEGV in a child that is decoding; the next one answers."""
    crash = "import os, signal; from seamline import decoding as d; d._eight_bits = lambda _: os.kill(os.getpid(), signal.SIGSEGV); "
    crash += f"d.decode(open({str(EXAMPLE)!r}, 'rb').read())"
    before = {path: path.read_bytes() for path in (place / "slots").rglob("*") if path.is_file()}

    assert run(sys.executable, "-c", crash, cwd=place).returncode == -11

    assert {path: path.read_bytes() for path in (place / "slots").rglob("*") if path.is_file()} == before
    assert seamline("classify", EXAMPLE, cwd=place).returncode == 0


# E9

THREADS = """
import os, sys, time
import numpy as np
import seamline
def threads(): return len(os.listdir("/proc/self/task"))
before = threads()
classifier = seamline.Classifier("bundle-1", threads=int(sys.argv[1]))
images = np.zeros((512, 28, 28), np.uint8)
classifier.probabilities(images)
time.sleep(0.5)  # numpy's own threads are awake for a moment after its import
began, used = time.perf_counter(), time.process_time()
for _ in range(1000): classifier.probabilities(images)
print(threads() - before, (time.process_time() - used) / (time.perf_counter() - began))
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_classifier_takes_the_threads_that_it_was_given(place, threads):
    """On one processor or all: what os.cpu_count says is the machine's, not the container's."""
    for before in ((), ("taskset", "--cpu-list", str(min(os.sched_getaffinity(0))))):
        done = run(*before, sys.executable, "-c", THREADS, threads, cwd=place)

        more, share = done.stdout.split()
        assert int(more) == threads - 1, "threads beside the caller's own"
        assert float(share) < threads + 0.1


# S2, S3, S4


def test_no_network_is_needed_and_none_is_asked_for(place, made):
    """In an empty network namespace; and strace sees no socket but those of the machine itself."""
    trace = ("strace", "-f", "-qq", "-o", place / "calls", "-e", "trace=socket,connect,sendto")
    for arguments in (("classify", EXAMPLE), ("info",), ("verify", made(1)), ("update", made(3)), ("rollback",)):
        done = seamline(*arguments, cwd=place, before=("unshare", "-rn", *trace))

        assert done.returncode == 0, done.stderr
        assert [line for line in (place / "calls").read_text().splitlines() if "AF_INET" in line] == []


def test_pickle_in_place_of_test_images_is_not_opened(place):
    np.save(place / "test-images.npy", np.array([{"harm": "ful"}], dtype=object), allow_pickle=True)
    np.save(place / "test-labels.npy", np.zeros(1, np.uint8))

    done = seamline("verify", "bundle-1", "--data", ".", cwd=place)

    assert done.returncode == 1
    assert done.stderr == "Object arrays cannot be loaded when allow_pickle=False\n"


def test_key_is_rotated_by_an_update_of_the_new_key(place, made):
    """The new public key comes onto the device by hand; then what the old key signed is neither updated to nor gone back to."""
    done = seamline("update", made(3, NEW), "--key", "new.pub", cwd=place)

    assert done.returncode == 0, done.stderr
    assert slots.start(place / "slots", public(NEW)).info["version"] == 3
    old = seamline("update", made(4, OLD), "--key", "new.pub", cwd=place)
    assert (old.returncode, "not the signature of this manifest by this key" in old.stderr) == (1, True)
    back = seamline("rollback", "--key", "new.pub", cwd=place)
    assert (back.returncode, "not the signature of this manifest by this key" in back.stderr) == (1, True)
    assert slots.start(place / "slots", public(NEW)).info["version"] == 3


def test_revoked_key_serves_nothing_until_a_bundle_of_the_new_one_comes(place, made):
    done = seamline("classify", EXAMPLE, "--key", "new.pub", cwd=place)
    assert done.returncode == 1
    assert "has no model that may serve." in done.stderr
    assert done.stderr.count("\n") == 1

    slots.install(place / "slots", made(3, NEW), public(NEW))

    assert seamline("classify", EXAMPLE, "--key", "new.pub", cwd=place).returncode == 0


def test_update_on_trial_is_not_taken_back_to_what_the_revoked_key_signed(place, made):
    """It may crash, but there is nothing else that may serve."""
    slots.install(place / "slots", made(3, NEW), public(NEW))

    assert [slots.start(place / "slots", public(NEW)).info["version"] for _ in range(5)] == [3] * 5


def test_lost_key_leaves_what_was_signed_serving(place, made):
    """Whoever has lost it can sign no update: the device says so, and goes on."""
    with pytest.raises(BundleError, match="not the signature"):
        slots.install(place / "slots", made(3, NEW), public(OLD))

    assert slots.start(place / "slots", public(OLD)).info["version"] == 2
