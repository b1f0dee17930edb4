"""Releases by the real commands: what is live is the old one or the new one, whatever happens."""

import hashlib
import json
import re
import shutil
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks import release, releases
from tasks.errors import DataError, ReleaseError
from tasks.writer import one_writer
from tests.publishing import Checkout, is_sound

pytest_plugins = ["tests.publishing"]

LAYOUT = {"bundle", "challenge.json", "challenge.md", "metrics.json", "params.yaml", "release.json"}


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_release_keeps_everything_and_is_live(checkout):
    checkout.train(1)
    assert checkout.challenge().returncode == 0

    done = checkout.release()

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(
        "release: version 1 is live; there is no DVC here: nothing is pushed; not recorded in git ("
    )
    assert {path.name for path in (checkout.releases / "1").iterdir()} == LAYOUT
    assert contents(checkout.releases / "live/bundle") == contents(checkout.root / "exports/bundle")
    about = json.loads((checkout.releases / "1/release.json").read_text())
    assert (about["version"], about["before"], about["why"]) == (1, None, "the first release, accuracy 0.9200")
    model = checkout.releases / "1/bundle/model.onnx"
    assert about["files"]["bundle/model.onnx"]["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert str((checkout.releases / "live").readlink()) == "1"
    told = json.loads((checkout.root / "data/release.json").read_text())
    assert (told["version"], told["released"], told["before"], told["removed"]) == (1, True, None, [])


def test_same_run_released_twice_is_one_release(released):
    before = contents(released.releases)

    done = [released.release(), released.challenge(), released.release()]

    assert [one.returncode for one in done] == [0, 0, 0]
    assert done[0].stdout == done[2].stdout == "release: version 3 is live already; nothing to release\n"
    assert contents(released.releases) == before
    assert [event["version"] for event in releases.history(released.releases)] == [1, 2, 3]


def test_same_model_under_another_version_is_nothing_to_release(released):
    released.train(4, 0.93)
    assert released.challenge().returncode == 0

    assert released.release().stdout == "release: version 3 is live already; nothing to release\n"


def test_retention_keeps_the_newest_the_live_one_and_the_one_before(released):
    released.change(release__keep=2)
    assert released.by_hand("promote", "1").returncode == 0  # live 1, previous 3
    released.publish(4, 0.95)

    assert releases.versions(released.releases) == [1, 3, 4]
    assert json.loads((released.root / "data/release.json").read_text())["removed"] == [2]


def not_challenged(one):
    one.train(4, 0.96)


def challenged_before_a_promotion(one):
    assert one.by_hand("promote", "1").returncode == 0


def refused(one):
    path = one.root / "data/challenge.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"verdict": "refused"}))


def metrics_changed(one):
    path = one.root / "data/reports/metrics.json"
    path.write_text(path.read_text() + " ")


def altered(one):
    path = one.root / "exports/bundle/model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def wrong_golden_vectors(one):
    """Of a bundle whose digests are right: only running it shows that it is wrong."""
    folder = one.root / "exports/bundle"
    vectors = json.loads((folder / "golden.json").read_text())
    vectors["probabilities"][0].reverse()
    content = json.dumps(vectors).encode()
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["golden.json"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "golden.json").write_bytes(content)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert one.challenge().returncode == 0


def version_taken(one):
    """The counter was set back: another model has the number of one that is kept."""
    one.train(2, 0.96)
    assert one.challenge().returncode == 0


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(not_challenged, "the challenge has not let this bundle through", id="not challenged"),
        pytest.param(refused, "the challenge has not let this bundle through", id="refused"),
        pytest.param(
            challenged_before_a_promotion, "the challenge was against 3, and 1 is live", id="another champion"
        ),
        pytest.param(metrics_changed, "metrics.json has changed since the challenge", id="metrics"),
        pytest.param(altered, "model.onnx is altered", id="altered"),
        pytest.param(wrong_golden_vectors, "the bundle fails: .* golden vectors", id="golden vectors"),
        pytest.param(version_taken, "2 is there already, with other content", id="version taken"),
    ],
)
def test_what_must_not_be_released_leaves_the_old_one_live(released, spoil, said):
    released.train(4, 0.95)
    assert released.challenge().returncode == 0
    spoil(released)
    before = contents(released.releases)

    done = released.release()

    assert (done.returncode, done.stderr) == (1, "")
    assert re.match(rf"release: not released: .*{said}.*\n$", done.stdout), done.stdout
    assert contents(released.releases) == before


def test_release_that_was_killed_before_it_began_is_made_by_the_next_run(released):
    released.train(4, 0.95)
    assert released.challenge().returncode == 0  # and killed here

    released.publish(4, 0.95)

    assert is_sound(released) == (4, 3)


def test_rollback_goes_back_and_further_back(released):
    assert released.by_hand("rollback", "--why", "calls bags coats").returncode == 0
    assert is_sound(released) == (2, 1)
    assert released.by_hand("rollback").returncode == 0
    assert is_sound(released) == (1, None)

    done = released.by_hand("rollback")

    assert (done.returncode, done.stdout) == (
        1,
        "not rolled back: there is no release before the one that is live. Nothing changed.\n",
    )


def test_rollback_on_prefects_pages_is_the_same(released, tmp_path):
    code = (
        "from pathlib import Path; from flows import stages; stages.ROOT = Path.cwd(); "
        "from flows.rollback import rollback; state = rollback(why='calls bags coats', return_state=True); "
        "print(state.type.value, state.name, state.message)"
    )

    done = [released.run("-c", code, PREFECT_HOME=str(tmp_path / "prefect")) for _ in range(3)]

    assert [one.stdout.splitlines()[-1] for one in done] == [
        "COMPLETED RolledBack Version 2 is live. Take it back: python -m flows.release promote 1",
        "COMPLETED RolledBack Version 1 is live.",
        "FAILED Failed not rolled back: there is no release before the one that is live. Nothing changed.",
    ], [one.stderr for one in done]
    assert is_sound(released) == (1, None)
    assert releases.history(released.releases)[-2]["why"] == "calls bags coats"


def test_what_was_taken_back_is_not_released_by_a_run_but_by_a_person(released):
    assert released.by_hand("rollback", "--why", "calls bags coats").returncode == 0

    done = released.challenge()
    assert done.returncode == 1
    assert "refused: version 3, the same model, was taken back on" in done.stdout
    assert "(calls bags coats); to have it after all: python -m flows.release promote 3" in done.stdout

    assert released.by_hand("promote", "3").stdout.startswith("Version 3 is live. Take it back:")
    assert releases.withdrawn(released.releases) == {}
    assert is_sound(released) == (3, 2)


def test_promotion_of_a_broken_or_absent_release_is_refused(released):
    model = released.releases / "1/bundle/model.onnx"
    model.chmod(0o644)
    model.write_bytes(model.read_bytes()[:-1] + b"x")

    broken, absent = released.by_hand("promote", "1"), released.by_hand("promote", "9")

    assert broken.returncode == absent.returncode == 1
    assert re.match(
        r"not promoted: .*1/bundle/model.onnx is not as it was released\. What is live stays", broken.stdout
    )
    assert re.match(r"not promoted: .*9 is absent\. What is live stays\. Kept: 1, 2, 3\.", absent.stdout)
    assert is_sound(released) == (3, 2)


def test_person_is_told_what_is_live_and_why(released):
    released.by_hand("rollback", "--why", "calls bags coats")

    listed, shown = released.by_hand("list"), released.by_hand("show", "3")

    assert listed.returncode == shown.returncode == 0
    assert re.search(r"│ +3 │ taken back: calls bags coats *│ 20\d\d-\d\d-\d\d \d\d:\d\d │ +93\.00% │", listed.stdout)
    assert re.search(r"│ +2 │ live ", listed.stdout)
    assert "8, all as they were released" in shown.stdout
    assert re.search(r"rolled back +\S+Z: 3 → 2 calls bags coats", shown.stdout)
    assert "On the same 4,000 images the challenger alone is right 40 times" in " ".join(shown.stdout.split())


def test_nothing_released_and_wrong_versions_are_said(checkout):
    assert checkout.by_hand("list").stdout.startswith("exports/releases has no release yet")
    assert checkout.by_hand("show").stdout.startswith("There is no release that is live")
    assert checkout.by_hand("show", "7").stdout.startswith("There is no release 7. Kept: none.")
    assert "expected a version from 1 on. Received 'x'" in checkout.by_hand("promote", "x").stderr


def test_help_teaches(checkout):
    done = checkout.by_hand("--help")

    assert done.returncode == 0
    for command in ("list", "show", "promote", "rollback", "exports/releases/live/bundle"):
        assert command in done.stdout


def test_rollback_waits_neither_for_a_run_nor_for_sound_numbers(released):
    (released.root / "params.yaml").write_text("release: {keep: many}")
    with one_writer(released.root, "retraining, started by schedule"):
        done = released.by_hand("rollback")

    assert done.returncode == 0, done.stdout
    assert is_sound(released) == (2, 1)


def test_two_promotions_at_once_are_one_after_the_other(released):
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda version: released.by_hand("promote", version), ("1", "2")))

    assert [one.returncode for one in done] == [0, 0]
    now, events = is_sound(released), releases.history(released.releases)
    assert now.live == events[-1]["version"]
    assert now.previous == events[-1]["before"]
    assert [event["before"] for event in events[1:]] == [event["version"] for event in events[:-1]]


def test_collection_that_races_a_promotion_spares_what_is_promoted(released):
    """The promotion of the oldest is held up as it is about to switch; meanwhile all old ones are to go."""
    slow = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=rename", "-e", "inject=rename:delay_enter=3000000")
    with ThreadPoolExecutor() as pool:
        promotion = pool.submit(released.by_hand, "promote", "1", before=slow)
        until = time.monotonic() + 60
        while not list(released.releases.glob(".tmp.*")) and time.monotonic() < until:
            time.sleep(0.01)
        assert released.live == 3, "it was too late"
        with releases.alone(released.releases):
            removed = releases.collect(released.releases, keep=1)

    assert promotion.result().returncode == 0
    assert removed == [2]
    assert is_sound(released) == (1, 3)


def test_live_and_previous_are_never_discarded(released):
    for version in (2, 3):
        with pytest.raises(DataError, match="is in service or the one before: it stays"):
            releases.discard(released.releases, version)
    assert releases.collect(released.releases, keep=1) == [1]


def test_link_that_is_none_is_said(released):
    (released.releases / "live").unlink()
    (released.releases / "live").write_text("3")

    with pytest.raises(DataError, match="is no link to a release. Remove it"):
        releases.standing(released.releases)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"live": 1}'])
def test_note_that_is_broken_counts_as_none(released, content):
    (released.releases / releases.NOTE).write_bytes(content)

    with releases.alone(released.releases):
        assert releases.standing(released.releases) == (3, 2)
    assert not (released.releases / releases.NOTE).exists()


def test_release_whose_record_is_broken_is_damaged(released):
    path = released.releases / "1/release.json"
    path.chmod(0o644)
    path.write_text("{")

    assert releases.damage(released.releases / "1") == [f"{path} cannot be read"]
    with pytest.raises(ReleaseError, match=r"release\.json cannot be read"):
        release.promote(released.releases, 1, "")


STEPS = {"release": (4, 3), "promote 1": (1, 3), "rollback": (2, 1)}  # → live and previous
AGAIN = {"release": "release", "promote 1": "promote 1", "rollback": "promote 2"}
KILL, ERRORS = "signal=SIGKILL", ("error=ENOSPC", "error=EROFS")


def traced(checkout: Checkout, what: str, log: Path, inject: tuple[str, ...] = ()):
    """A step of publishing under strace."""
    before = ("strace", "-f", "-qq", "-y", "-o", str(log), "-e", "trace=fsync,rename,symlink,unlink", *inject)
    return checkout.quickly(what, before)


def steps_of(log):
    """Each system call that changes releases: its name, and which one of its kind; those that fail anyhow are left out."""
    seen, found = Counter(), []
    for call, rest in re.findall(r"^\d+ +(\w+)\((.*)$", log.read_text(), re.MULTILINE):
        seen[call] += 1
        if "exports/releases" in rest and rest.endswith("= 0"):
            found.append((call, seen[call]))
    return found


def faults_of(steps):
    """SIGKILL at every step; a full or a read-only disk at every rename, link and removal, and at some fsyncs."""
    for number, (call, when) in enumerate(steps):
        yield call, when, KILL
        if call != "fsync" or number % 5 == 0:
            yield call, when, ERRORS[number % 2]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("what", STEPS)
def test_kill_or_full_disk_at_every_step_leaves_the_old_release_or_the_new_one(tmp_path, released, what):
    """At each fsync, rename, link and removal in turn; then it is repeated."""
    if what == "release":
        released.train(4, 0.95)
        assert released.challenge().returncode == 0
    old, new, log = releases.standing(released.releases), STEPS[what], tmp_path / "calls"
    whole = Checkout(shutil.copytree(released.root, tmp_path / "whole", symlinks=True))
    assert traced(whole, what, log).returncode == 0
    assert is_sound(whole) == new
    steps = steps_of(log)
    counted = Counter(call for call, _ in steps)
    assert counted["symlink"] == 2
    assert counted["rename"] >= 4
    assert counted["fsync"] >= 6

    def broken(fault):
        call, when, how = fault
        root = shutil.copytree(released.root, tmp_path / "-".join((call, str(when), how[-4:])), symlinks=True)
        trial, where = Checkout(root), f"{how} at {call} number {when}"
        done = traced(trial, what, root.with_suffix(".calls"), ("-e", f"inject={call}:{how}:when={when}"))
        if how == KILL:
            assert done.returncode == -9, where
        else:
            assert "Traceback" not in done.stdout + done.stderr, where + done.stderr
            assert re.search(r"No space left|Read-only file system", done.stdout) or done.returncode == 0, where
        now = is_sound(trial)
        assert now in {old, new}, where
        assert now == new or done.returncode, where
        if how == KILL or now == old:
            again = trial.quickly(AGAIN[what])
            assert again.returncode == 0, where + again.stdout + again.stderr
            assert is_sound(trial).live == new[0], where
            assert [path.name for path in trial.releases.glob(".*")] == [".lock"], where
            assert [event["version"] for event in releases.history(trial.releases)] == [1, 2, 3, new[0]], where
        shutil.rmtree(root)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(broken, faults_of(steps)))
