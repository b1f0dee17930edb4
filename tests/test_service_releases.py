"""How the service begins, changes its model and ends, under load: nothing is dropped, nothing is mixed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import requests

from seamline import bundle, slots
from seamline.service.releases import Releases, Source
from tasks import bundle as making
from tasks import folders
from tests.conftest import KINDS, ROOT
from tests.serving import HEADERS, everything, request, running, status

REFERENCE = ROOT / "seamline/reference"
SNEAKER = (ROOT / "examples/sneaker.png").read_bytes()


@pytest.fixture
def made(tmp_path, bundle_files, with_limit):
    """(version) → the folder of a bundle; those of even versions have another model."""

    def make(version):
        files = bundle_files(version)
        del files[bundle.MANIFEST]
        if version % 2 == 0:
            files[bundle.MODEL] = with_limit("0.6")
        facts = {"classes": KINDS, "metrics": {"accuracy": 0.9}}
        folder = tmp_path / f"bundle-{version}"
        folders.fill(folder, files | {bundle.MANIFEST: making.manifest_of(version, facts, files)})
        return folder

    return make


class Load:
    """Clients that ask all the time, each on a connection of its own, until they are told to stop."""

    def __init__(self, service, clients=6):
        self.answers, self.failures = [], []
        self.stopping = threading.Event()
        self._service = service
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self):
        with requests.Session() as session:
            while not self.stopping.is_set():
                try:
                    answer = session.post(f"{self._service.url}/v1/classify", data=SNEAKER, headers=HEADERS, timeout=60)
                except requests.ConnectionError as error:
                    self.failures.append(str(error))
                    return
                self.answers.append((answer.status_code, answer.json()))

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self._threads:
            thread.join()


def until(true, seconds=60.0):
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "it did not come true"
        time.sleep(0.05)


def point(link, folder):
    """As publishing does: by one rename."""
    temporary = link.with_name("next")
    temporary.symlink_to(folder)
    temporary.rename(link)


def version(service):
    return service.metric("seamline_bundle_version")


def listens(service):
    try:
        service.connect().close()
    except ConnectionError:
        return False
    return True


# H4

COUNTED_TO_THE_END = """
import atexit, sys
import seamline.service.metrics as m
made = m.made
def kept(*functions):
    found = made(*functions)
    lines = lambda: [line for line in m.shown(found).decode().splitlines() if 'total{route="/v1/classify"' in line]
    atexit.register(lambda: print(*lines(), sep="\\n", file=sys.stderr))
    return found
m.made = kept
"""


def test_sigterm_under_load_is_not_ready_finishes_what_is_under_way_and_ends_with_0():
    with running("--model", REFERENCE, "--drain", "1.5", code=COUNTED_TO_THE_END) as service, Load(service) as load:
        until(lambda: len(load.answers) > 20)
        service.process.send_signal(signal.SIGTERM)
        until(lambda: service.get("/v2/health/ready").status_code == 503, 1.4)
        drained = len(load.answers)
        code = service.process.wait(60)

    assert code == 0
    assert len(load.answers) > drained
    assert Counter(status for status, _ in load.answers) == {200: len(load.answers)}
    # What a client saw fail the service has never seen: every request that it has seen was answered, and arrived.
    assert service.log == [f'seamline_requests_total{{route="/v1/classify",status="200"}} {len(load.answers)}.0\n']


@pytest.mark.parametrize("sent", [pytest.param(20, id="a head"), pytest.param(-len(SNEAKER) // 2, id="a body")])
@pytest.mark.parametrize("earlier", [pytest.param(False, id="first"), pytest.param(True, id="second")])
def test_request_that_is_half_sent_as_sigterm_comes_is_answered(earlier, sent):
    whole = request("/v1/classify", SNEAKER)
    with running("--model", REFERENCE) as service:
        with service.connect() as connection:
            if earlier:
                connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert status(connection.recv(65536)) == 200
            connection.sendall(whole[:sent])
            time.sleep(0.5)  # it arrives
            service.process.send_signal(signal.SIGTERM)
            until(lambda: not listens(service))
            time.sleep(0.5)
            connection.sendall(whole[sent:])
            answer = everything(connection)
        code = service.process.wait(60)

    assert (status(answer), b'"kind": "Sneaker"' in answer) == (200, True)
    assert b"connection: close" in answer
    assert code == 0


def test_request_that_waits_as_sigterm_comes_is_answered():
    with running("--model", REFERENCE, "--workers", "1") as service:
        (worker,) = service.workers()
        os.kill(worker, signal.SIGSTOP)
        found = []
        threads = [
            threading.Thread(target=lambda: found.append(service.post("/v1/classify", SNEAKER))) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        until(lambda: service.metric("seamline_queue_length") == 2)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        os.kill(worker, signal.SIGCONT)
        for thread in threads:
            thread.join()
        code = service.process.wait(60)

    assert code == 0
    assert [one.status_code for one in found] == [200] * 3


def test_second_signal_ends_at_once_and_workers_leave_with_the_service(tmp_path):
    with running("--model", REFERENCE, "--drain", "600", TMPDIR=str(tmp_path)) as service:
        workers = service.workers()
        service.process.send_signal(signal.SIGINT)
        until(lambda: service.get("/v2/health/ready").status_code == 503)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(60) == 0

    until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    assert list(tmp_path.iterdir()) == []


def test_service_that_is_killed_takes_its_workers_with_it():
    with running("--model", REFERENCE) as service:
        workers = service.workers()
        service.process.kill()
        service.process.wait(60)

    until(lambda: not any(_runs(worker) for worker in workers))


def test_copy_that_a_killed_service_left_is_removed_by_the_next_and_a_live_ones_is_not(tmp_path):
    def start():
        return running("--model", REFERENCE, "--workers", "1", TMPDIR=str(tmp_path))

    with start():
        (live,) = tmp_path.iterdir()
        with start() as killed:
            (left,) = set(tmp_path.iterdir()) - {live}
            killed.end(signal.SIGKILL)
        with start() as service:
            after = set(tmp_path.iterdir())
            assert service.post("/v1/classify", SNEAKER).status_code == 200

    assert live in after
    assert left not in after
    assert len(after) == 2
    assert list(tmp_path.iterdir()) == []


def _runs(number):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{number}/status").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False


def test_pipe_that_breaks_ends_neither_the_service_nor_a_worker():
    with running("--model", REFERENCE) as service:
        before = service.workers()
        for process in (service.process.pid, *before):
            os.kill(process, signal.SIGPIPE)  # as the kernel says of a client that hung up
        time.sleep(0.5)

        assert service.process.poll() is None
        assert service.workers() == before
        assert service.post("/v1/classify", SNEAKER).status_code == 200


# H6


def test_new_bundles_under_load_fail_no_request_and_mix_no_versions(tmp_path, made):
    link = tmp_path / "live"
    digests = {}
    for number in (1, 2, 3):
        manifest = json.loads((made(number) / bundle.MANIFEST).read_text(encoding="utf-8"))
        digests[number] = manifest["files"][bundle.MODEL]["sha256"]
    assert digests[1] != digests[2]
    link.symlink_to(tmp_path / "bundle-1")
    with running("--model", link) as service, Load(service) as load:
        for number in (2, 3):
            until(lambda number=number: len(load.answers) > 20 * number)
            point(link, tmp_path / f"bundle-{number}")
            if number == 3:
                service.process.send_signal(signal.SIGHUP)
            until(lambda number=number: load.answers[-1][1]["version"] == number)
        until(lambda: len(load.answers) > 100)

    assert load.failures == []
    assert {status for status, _ in load.answers} == {200}
    assert {answer["version"] for _, answer in load.answers} == {1, 2, 3}
    assert all(answer["model"] == digests[answer["version"]] for _, answer in load.answers)


@pytest.mark.parametrize("fault", ["altered", "golden", "absent"])
def test_new_bundle_that_must_not_be_used_leaves_the_old_one_serving(tmp_path, made, bundle_files, fault):
    link, bad = tmp_path / "live", made(4)
    link.symlink_to(made(3))
    if fault == "altered":
        (bad / bundle.MODEL).write_bytes((bad / bundle.MODEL).read_bytes() + b"x")
    if fault == "golden":
        files = bundle_files(4)
        golden = json.loads(files[bundle.GOLDEN])
        golden["probabilities"] = [row[::-1] for row in golden["probabilities"]]
        files[bundle.GOLDEN] = json.dumps(golden).encode()
        del files[bundle.MANIFEST]
        shutil.rmtree(bad)
        folders.fill(bad, files | {bundle.MANIFEST: making.manifest_of(4, {"classes": KINDS}, files)})
    with running("--model", link) as service, Load(service, clients=2) as load:
        if fault == "absent":
            shutil.rmtree(bad)
        point(link, bad)
        service.process.send_signal(signal.SIGHUP)
        if fault != "absent":
            until(lambda: service.log)
        else:
            time.sleep(3)
        until(lambda: len(load.answers) > 50)
        shutil.rmtree(bad, ignore_errors=True)
        point(link, made(6))
        until(lambda: version(service) == 6)

    assert load.failures == []
    assert {status for status, _ in load.answers} == {200}
    assert {answer["version"] for _, answer in load.answers} <= {3, 6}
    reasons = {"altered": "is larger than", "golden": "from the golden vectors", "absent": ""}
    assert reasons[fault] in "".join(service.log)
    assert fault == "absent" or "It is not used: version 3 serves on." in service.log[0]


def test_worker_that_is_replaced_has_the_model_that_serves_whatever_became_of_its_file(tmp_path, made):
    folder = made(1)
    with running("--model", folder, "--workers", "1") as service:
        shutil.rmtree(folder)
        (worker,) = service.workers()
        os.kill(worker, signal.SIGKILL)
        lost = service.post("/v1/classify", SNEAKER)
        answer = service.post("/v1/classify", SNEAKER)

    assert lost.status_code in {200, 422}
    assert (answer.status_code, answer.json()["version"]) == (200, 1)


def test_index_that_is_made_anew_is_taken(tmp_path, made):
    folder, index = made(1), tmp_path / "index.safetensors"
    made_index = [sys.executable, "-m", "seamline", "index", "examples", "--model", str(folder), "--out", str(index)]
    with running("--model", folder, "--index", index) as service:
        before = service.post("/v1/similar", SNEAKER)
        subprocess.run(made_index, cwd=ROOT, check=True, capture_output=True)
        until(lambda: service.post("/v1/similar", SNEAKER).status_code == 200)
        after = service.post("/v1/similar?k=1", SNEAKER).json()

    assert before.status_code == 404
    assert after["neighbours"][0]["name"] == "sneaker.png"


# The device's slots


def test_slots_serve_and_an_update_is_taken_and_confirmed_by_its_first_answer(tmp_path, made):
    place = tmp_path / "slots"
    slots.install(place, made(1))
    with running("--slots", place) as service:
        assert slots.read(place) == slots.State("a", "", 1, 1, confirmed=False)
        first = service.post("/v1/classify", SNEAKER).json()
        until(lambda: slots.read(place).confirmed)
        slots.install(place, made(2))
        until(lambda: version(service) == 2)
        assert not slots.read(place).confirmed
        second = service.post("/v1/classify", SNEAKER).json()
        until(lambda: slots.read(place).confirmed)

    assert (first["version"], second["version"]) == (1, 2)


def test_slot_that_is_spoilt_is_passed_over_and_never_confirmed(tmp_path, made):
    place = tmp_path / "slots"
    for number in (1, 2):
        slots.install(place, made(number))
    (place / "b" / bundle.MODEL).write_bytes(b"spoilt")
    with running("--slots", place) as service:
        told = service.post("/v1/classify", SNEAKER).json()
        time.sleep(0.5)

    assert told["version"] == 1
    assert not slots.read(place).confirmed


def test_nothing_that_may_serve_is_one_line(tmp_path, made):
    broken = made(1)
    (broken / bundle.MODEL).write_bytes(b"broken")
    command = [sys.executable, "-m", "seamline", "serve", "--port", "0", "--model", str(broken)]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 1
    assert f"{broken / bundle.MODEL} is altered" in done.stderr
    assert done.stderr.count("\n") == 1


def test_service_whose_workers_cannot_start_any_more_ends_so_that_it_is_started_again(made):
    code = (
        "import seamline.service.pool as p; p.FAILED_STARTS = 2\n"
        "import seamline.service.serve as s; run = s.Server.startup\n"
        "async def startup(self, sockets=None):\n"
        "    await run(self, sockets); p.PACKAGES = '/nowhere'; import os; os.environ['PYTHONPATH'] = '/nowhere'; os.chdir('/')\n"
        "s.Server.startup = startup"
    )
    with running("--model", made(1), "--workers", "1", code=code) as service:
        (worker,) = service.workers()
        os.kill(worker, signal.SIGKILL)
        service.post("/v1/classify", SNEAKER)
        ended = service.process.wait(60)

    assert ended == 1
    assert "A worker ended before it could answer.\n" in service.log  # asyncio may add that the pipe to the first broke


def test_pool_before_the_start_is_refused(tmp_path):
    releases = Releases(Source(None, tmp_path, None, None, None), 1, print)

    with pytest.raises(RuntimeError, match="Expected a service that was started"):
        _ = releases.pool
