import json
import logging
import math

import pytest

from tasks import gate
from tasks.arrays import CLASSES
from tasks.errors import DataError, GateError

WEIGHTS, TEST_DATA = "a" * 64, "b" * 64


@pytest.fixture
def limits(numbers):
    return numbers.gate.model_copy(update={"min_accuracy": 0.90, "min_recall": 0.65})


@pytest.fixture
def metrics():
    """Of a model that meets every limit exactly."""
    return {
        "accuracy": 0.90,
        "worst_class": "Shirt",
        "worst_recall": 0.65,
        "classes": {
            name: {"precision": 0.9, "recall": 0.65 if name == "Shirt" else 0.93, "f1": 0.9} for name in CLASSES
        },
        "weights": WEIGHTS,
        "test_data": TEST_DATA,
    }


@pytest.fixture
def description():
    return {"weights": WEIGHTS, "data": {"train": "c" * 64, "test": TEST_DATA}}


@pytest.fixture
def decide(limits, tmp_path):
    """(metrics, description) → runs the gate on files of them."""

    def run(metrics, description):
        (tmp_path / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
        (tmp_path / "model").mkdir()
        (tmp_path / "model/model.json").write_text(json.dumps(description), encoding="utf-8")
        gate.run(limits, tmp_path / "metrics.json", tmp_path / "model", tmp_path / "verdict.json", tmp_path / "gate.md")

    return run


@pytest.fixture
def refused(decide, tmp_path):
    """(metrics, description) → the reasons of the refusal, of which verdict, summary and message say the same."""

    def reasons(metrics, description):
        with pytest.raises(
            GateError, match=r"^refused: [^\n]+\. Verdict: .*verdict\.json\. What was exported before"
        ) as caught:
            decide(metrics, description)
        verdict = json.loads((tmp_path / "verdict.json").read_text(encoding="utf-8"))
        summary = (tmp_path / "gate.md").read_text(encoding="utf-8")
        assert verdict["passed"] is False
        assert f"refused: {'; '.join(verdict['reasons'])}. Verdict: " in str(caught.value)
        assert summary.startswith("The gate has **refused** this model.\n")
        assert [line.removeprefix("- ") for line in summary.splitlines() if line.startswith("- ")] == verdict["reasons"]
        return verdict["reasons"]

    return reasons


def test_model_exactly_at_every_limit_passes(metrics, description, decide, tmp_path, caplog):
    caplog.set_level(logging.INFO)

    decide(metrics, description)

    assert json.loads((tmp_path / "verdict.json").read_text(encoding="utf-8")) == {
        "passed": True,
        "reasons": [],
        "limits": {"min_accuracy": 0.90, "min_recall": 0.65},
        "weights": WEIGHTS,
    }
    assert (tmp_path / "gate.md").read_text(encoding="utf-8") == (
        "The gate has **passed** this model.\n\n| measure | value | limit |\n|---|---:|---:|\n"
        "| accuracy | 0.9 | 0.9 |\n| recall of Shirt | 0.65 | 0.65 |\n\n"
    )
    assert "gate: passed" in caplog.text


@pytest.mark.parametrize(
    ("accuracy", "said"),
    [
        pytest.param(0.8999, "0.8999", id="89.99 %"),
        pytest.param(math.nextafter(0.9, 0), "0.9", id="the last bit"),
        pytest.param(0, "0", id="zero"),
        pytest.param(math.nan, "nan", id="nan"),
        pytest.param(-math.inf, "-inf", id="minus infinity"),
        pytest.param(None, "missing", id="null"),
        pytest.param("0.95", "'0.95'", id="text"),
        pytest.param(True, "True", id="yes"),
        pytest.param([0.95], "[0.95]", id="list"),
    ],
)
def test_accuracy_that_does_not_reach_its_limit_is_refused(metrics, description, refused, accuracy, said):
    metrics["accuracy"] = accuracy

    assert refused(metrics, description) == [f"accuracy is {said}, the limit is 0.9000"]


def test_missing_accuracy_is_refused(metrics, description, refused):
    del metrics["accuracy"]

    assert refused(metrics, description) == ["accuracy is missing, the limit is 0.9000"]


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize(("recall", "said"), [(0.6499, "0.6499"), (math.nan, "nan"), (None, "missing")], ids=str)
def test_recall_of_every_class_must_reach_its_limit(metrics, description, refused, name, recall, said):
    metrics["classes"][name]["recall"] = recall

    assert refused(metrics, description) == [f"recall of {name} is {said}, the limit is 0.6500"]


def test_class_that_collapses_is_refused_though_the_mean_is_high(metrics, description, refused):
    metrics["accuracy"] = 0.95
    metrics["classes"]["Shirt"]["recall"] = 0.0

    assert refused(metrics, description) == ["recall of Shirt is 0, the limit is 0.6500"]


def test_missing_class_is_refused(metrics, description, refused):
    del metrics["classes"]["Bag"]

    assert refused(metrics, description) == ["recall of Bag is missing, the limit is 0.6500"]


def test_missing_classes_are_all_named(metrics, description, refused):
    del metrics["classes"]

    assert refused(metrics, description) == [f"recall of {name} is missing, the limit is 0.6500" for name in CLASSES]


def test_every_miss_is_named(metrics, description, refused):
    metrics["accuracy"] = 0.5
    metrics["classes"]["Coat"]["recall"] = 0.25

    assert refused(metrics, description) == [
        "accuracy is 0.5, the limit is 0.9000",
        "recall of Coat is 0.25, the limit is 0.6500",
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"weights": "d" * 64}, f"weights ({12 * 'd'}, not {12 * 'a'})", id="another model's"),
        pytest.param({"test_data": "d" * 64}, f"test data ({12 * 'd'}, not {12 * 'b'})", id="of other data"),
        pytest.param({"weights": None}, f"weights (None, not {12 * 'a'})", id="of no model"),
    ],
)
def test_metrics_of_something_else_are_refused(metrics, description, refused, change, said):
    assert refused(metrics | change, description) == [f"the metrics are of other {said}"]


@pytest.mark.parametrize(
    ("description", "said"),
    [
        pytest.param({"data": {"test": TEST_DATA}}, ["weights"], id="without weights"),
        pytest.param({"weights": WEIGHTS, "data": {}}, ["test data"], id="without test data"),
        pytest.param({}, ["weights", "test data"], id="empty"),
    ],
)
def test_model_that_does_not_say_what_it_is_is_refused(metrics, refused, description, said):
    metrics |= {"weights": description.get("weights"), "test_data": description.get("data", {}).get("test")}

    assert [reason.split(" (")[0] for reason in refused(metrics, description)] == [
        f"the metrics are of other {name}" for name in said
    ]


def test_broken_metrics_are_refused(limits, tmp_path):
    (tmp_path / "metrics.json").write_text('{"accuracy": 0.9')

    with pytest.raises(DataError, match=r"metrics\.json is not JSON"):
        gate.run(limits, tmp_path / "metrics.json", tmp_path, tmp_path / "verdict.json", tmp_path / "gate.md")
    assert not (tmp_path / "verdict.json").exists()


@pytest.mark.parametrize("accuracy", [91, math.inf], ids=["percent", "infinite"])
def test_accuracy_that_is_no_share_is_refused(metrics, description, refused, accuracy):
    metrics["accuracy"] = accuracy

    assert len(refused(metrics, description)) == 1


@pytest.mark.parametrize("classes", [None, {"Bag": None}], ids=["null", "a class null"])
def test_classes_without_content_are_refused(metrics, description, refused, classes):
    metrics["classes"] = classes if classes is None else metrics["classes"] | classes

    assert "recall of Bag is missing, the limit is 0.6500" in refused(metrics, description)
