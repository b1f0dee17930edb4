"""Whether a model may replace the live one: real models whose errors are known, through the runtime that ships."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from seamline import bundle as shipped
from tasks import challenge, contest, labelled, params
from tasks.arrays import CLASSES
from tasks.contest import Scores
from tasks.paired import Pairs
from tests.publishing import RECALL, ROOT, new_checkout, write_data

pytest_plugins = ["tests.publishing"]


def scores(accuracy=0.92, error=0.01, **recalls):
    return Scores(accuracy, error, dict.fromkeys(CLASSES, accuracy) | recalls)


@pytest.fixture
def limits(numbers):
    return numbers.challenge


def test_first_run_has_the_gate_alone(checkout):
    checkout.train(1, 0.905)

    done = checkout.challenge()

    assert (done.returncode, done.stdout) == (0, "challenge: version 1 may be the first release, accuracy 90.50%\n")
    assert checkout.verdict["verdict"] == "released"
    assert checkout.verdict["champion"] is None
    assert "champion: none" in (checkout.root / "data/challenge.md").read_text()


def test_first_run_below_the_gate_is_refused(checkout):
    checkout.train(1, 0.89)

    done = checkout.challenge()

    assert done.returncode == 1
    assert done.stdout.startswith(
        "challenge: refused: accuracy is 0.89, the limit is 0.9000. Verdict: data/challenge.md"
    )
    assert checkout.verdict["verdict"] == "refused"
    assert checkout.verdict["challenger"]["accuracy"] == 0.89


def test_better_model_may_replace_the_champion_and_both_figures_are_told(released):
    released.train(4, 0.95)

    done = released.challenge()

    assert done.returncode == 0, done.stdout
    found = released.verdict
    assert (found["verdict"], found["champion"]["accuracy"], found["challenger"]["accuracy"]) == (
        "released",
        0.93,
        0.95,
    )
    assert found["paired"]["won"] == 80
    assert found["paired"]["lost"] == 0
    assert found["best"] == 0.95


def test_very_same_model_is_nothing_to_release(released):
    released.train(4, 0.93)

    done = released.challenge()

    assert (done.returncode, done.stdout) == (0, "challenge: version 3 is live already; nothing to release\n")
    assert released.verdict["verdict"] == "same"


def test_other_model_that_is_as_good_may_replace_the_champion(tmp_path, released):
    """Its errors are on other images: 4,000 of them are enough within two points."""
    released.change(challenge__margin=0.02)
    released.train(4, 0.93, place=1)

    assert released.challenge().returncode == 0
    assert released.verdict["paired"]["won"] == released.verdict["paired"]["lost"] > 200


def test_worse_model_is_refused_with_its_figures(released):
    released.train(4, 0.92)

    done = released.challenge()

    assert done.returncode == 1
    assert "refused: worse than the champion: accuracy differs by -0.0100 (95%: -0.0131 … -0.0069)" in done.stdout
    assert released.verdict["paired"]["lost"] == 40
    assert "McNemar's exact p" in (released.root / "data/challenge.md").read_text()


def test_class_that_collapses_while_the_mean_holds_is_refused(released):
    released.train(4, [0.95] * 9 + [0.80])

    done = released.challenge()

    assert done.returncode == 1
    assert "refused: recall of Ankle boot falls from 0.9300 to 0.8000, by more than 0.05. Verdict" in done.stdout
    assert released.verdict["challenger"]["accuracy"] > released.verdict["champion"]["accuracy"]


@pytest.mark.parametrize(("sure", "said"), [(0.7, "calibration error is"), (0.87, "calibration error rises from")])
def test_calibration_that_is_lost_is_refused(released, sure, said):
    released.change(challenge__max_calibration_rise=0.01)
    released.train(4, 0.95, sure=sure)

    done = released.challenge()

    assert done.returncode == 1
    assert said in done.stdout


def test_too_few_images_are_not_enough_evidence(tmp_path):
    few = new_checkout(tmp_path / "few", per_class=25)
    few.publish(1, 0.92)
    few.train(2, 0.92, place=1)

    done = few.challenge()

    assert done.returncode == 1
    assert "refused: not enough evidence: accuracy differs by +0.0000 (95%:" in done.stdout
    assert "250 test images, 5,031 would do" in done.stdout
    assert few.live == 1


def spoil_metrics(checkout, **otherwise):
    path = checkout.root / "data/reports/metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | otherwise))


def of_other_data(checkout):
    path = checkout.root / "data/normalised/stats.json"
    path.write_text(json.dumps({"data": json.loads(path.read_text())["data"] | {"train": "other"}}))


def with_other_test_images(checkout):
    before = (checkout.root / "data/normalised/stats.json").read_text()
    write_data(checkout.root / "data/normalised", 399)
    (checkout.root / "data/normalised/stats.json").write_text(before)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(lambda one: spoil_metrics(one, weights="w"), "the metrics are of other weights", id="weights"),
        pytest.param(lambda one: spoil_metrics(one, weights=None), "the metrics are of other weights", id="no weights"),
        pytest.param(
            lambda one: spoil_metrics(one, test_data="t"), "the metrics are of other test data", id="test data"
        ),
        pytest.param(of_other_data, "the bundle is of other data", id="data"),
        pytest.param(with_other_test_images, "the test images are not those that were prepared", id="images"),
    ],
)
def test_metrics_of_another_model_or_of_other_data_are_refused(released, spoil, said):
    released.train(4, 0.95)
    spoil(released)

    done = released.challenge()

    assert done.returncode == 1
    assert f"refused: {said}" in done.stdout
    assert released.verdict["verdict"] == "refused"


def test_bundle_that_promises_more_than_it_keeps_is_refused(released):
    released.train(4, 0.95, accuracy=0.96)

    done = released.challenge()

    assert done.returncode == 1
    assert "its accuracy is 0.9500, its bundle says 0.9600" in done.stdout


def test_model_that_answers_no_numbers_is_refused(checkout):
    checkout.train(1, 0.95, sure=float("nan"), accuracy=0.95)

    done = checkout.challenge()

    assert done.returncode == 1
    assert "accuracy is nan, the limit is 0.9000" in done.stdout
    assert "NaN" not in (checkout.root / "data/challenge.json").read_text()


def test_bundle_that_is_broken_is_refused(released):
    released.train(4, 0.95)
    (released.root / "exports/bundle/model.onnx").write_bytes(b"nothing")

    done = released.challenge()

    assert done.returncode == 1
    assert "model.onnx is altered" in done.stdout
    assert released.verdict["verdict"] == "refused"


def test_champion_that_is_broken_is_said_with_what_to_do(released):
    released.train(4, 0.95)
    model = released.releases / "3/bundle/model.onnx"
    model.chmod(0o644)
    model.write_bytes(b"nothing")

    done = released.challenge()

    assert done.returncode == 1
    assert "What is live is broken:" in done.stdout
    assert "python -m flows.release promote VERSION" in done.stdout


def test_other_classes_are_refused(released, bundle_files):
    shutil.rmtree(released.root / "exports/bundle")
    from tasks import folders

    folders.fill(released.root / "exports/bundle", bundle_files(4))

    done = released.challenge()

    assert done.returncode == 1
    assert "the bundle names other classes (kind 0, kind 1" in done.stdout


def test_many_small_losses_do_not_add_up(released, limits):
    assert contest.losses(scores(0.92), scores(0.92), 0.93, limits) == []
    assert contest.losses(scores(0.92), scores(0.92), 0.94, limits) == [
        "accuracy is 0.9200, the best release had 0.9400: more than 0.015 lost"
    ]
    path = released.releases / "3/challenge.json"
    path.chmod(0o644)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"best": 0.97}))
    released.train(4, 0.94)

    assert "the best release had 0.9700" in released.challenge().stdout


def test_best_of_other_test_images_does_not_count(released):
    assert challenge.best_before(released.releases / "3", released.verdict["test_data"]) == 0.93
    assert challenge.best_before(released.releases / "3", "others") == 0.0
    assert challenge.best_before(released.releases / "9", "any") == 0.0


NAN = float("nan")


@pytest.mark.parametrize(
    ("challenger", "champion", "best"),
    [
        pytest.param(scores(Bag=NAN), scores(), 0.92, id="recall"),
        pytest.param(scores(error=NAN), scores(), 0.92, id="calibration"),
        pytest.param(scores(), scores(error=NAN), 0.92, id="champion's calibration"),
        pytest.param(scores(), scores(Bag=NAN), 0.92, id="champion's recall"),
        pytest.param(scores(NAN, **dict.fromkeys(CLASSES, 0.92)), scores(), 0.92, id="accuracy"),
    ],
)
def test_nan_is_a_loss(limits, challenger, champion, best):
    assert contest.losses(scores(), scores(), 0.92, limits) == []
    assert contest.losses(challenger, champion, best, limits) != []


@pytest.mark.parametrize(
    ("counted", "said"),
    [
        pytest.param(Pairs(200, 200, 10_000), "", id="as good"),
        pytest.param(Pairs(200, 230, 10_000), "", id="a little worse, by chance"),
        pytest.param(Pairs(0, 0, 10), "not enough evidence", id="few images, no difference"),
        pytest.param(Pairs(0, 5, 10_000), "", id="five lost: p is 0.06"),
        pytest.param(Pairs(0, 6, 10_000), "worse", id="six lost: p is 0.03, though within the margin"),
        pytest.param(Pairs(150, 230, 10_000), "worse", id="swift against small"),
        pytest.param(Pairs(2000, 2000, 10_000), "not enough evidence", id="as good, but wholly different"),
    ],
)
def test_decision(limits, counted, said):
    reasons = contest.worse(counted, limits)

    assert [reason.startswith(said) for reason in reasons] == [True] * bool(said)


def test_labelled_pictures_are_shown_for_both_and_decide_nothing(released, tmp_path):
    folder = tmp_path / "pictures"
    for kind, names in {"sneaker": 3, "ankle-boot": 2, "t-shirt-top": 1, "hats": 4}.items():
        (folder / kind).mkdir(parents=True)
        for number in range(names):
            source = ROOT / f"examples/{kind}.png"
            shutil.copy(source if source.is_file() else ROOT / "examples/bag.png", folder / kind / f"{number}.png")
    (folder / "sneaker/broken.png").write_bytes(b"no picture")
    released.change(challenge__pictures=str(folder))
    released.train(4, 0.95)

    assert released.challenge().returncode == 0

    found = released.verdict
    assert found["pictures"] == {"folder": str(folder), "skipped": ["hats"], "unreadable": 1}
    for side in ("challenger", "champion"):
        assert found[side]["pictures"]["pictures"] == 6
        assert {kind: count for kind, (count, _) in found[side]["pictures"]["by_kind"].items()} == {
            "T-shirt/top": 1,
            "Sneaker": 3,
            "Ankle boot": 2,
        }
    page = (released.root / "data/challenge.md").read_text()
    assert "which decide nothing: 1 folders of other kinds skipped, 1 files that are no pictures" in page


def test_real_pictures_are_named_by_the_real_bundle(tmp_path):
    from seamline import Classifier

    for file in (ROOT / "examples").glob("*.png"):
        (tmp_path / file.stem).mkdir()
        shutil.copy(file, tmp_path / file.stem)
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / "bag/black.png")

    pictures = labelled.read(tmp_path)
    seen = labelled.look(Classifier(ROOT / "seamline/reference"), pictures)

    assert (seen.pictures, pictures.unreadable) == (10, 1)
    assert seen.right >= 9
    assert sorted(map(labelled.slug, CLASSES)) == sorted(file.stem for file in (ROOT / "examples").glob("*.png"))


def test_absent_pictures_hold_nothing_up(checkout):
    checkout.change(challenge__pictures="nowhere")
    checkout.train(1)

    assert checkout.challenge().returncode == 0
    assert checkout.verdict["challenger"]["pictures"]["pictures"] == 0


def test_real_bundle_of_the_repository_is_read_as_a_challenger():
    found = shipped.read(ROOT / "seamline/reference")

    assert set(challenge.content(found)) == {"golden.json", "model.onnx"}
    assert params.load(ROOT / "params.yaml").challenge.margin < 0.05
    assert RECALL > 0.9
