"""The report: everything stands in one page, nothing is loaded, and nothing that was read becomes HTML."""

import csv
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tasks import metrics, report, splits
from tasks.arrays import CLASSES, SIDE, Split
from tasks.errors import DataError
from tasks.files import write_json, write_text
from tasks.params import Report

WEIGHTS, OTHER = "a" * 64, "b" * 64
PER_CLASS = {"train": 6, "validation": 2, "test": 4}
HOSTILE = "<script>alert('&')</script>"
ADDRESSES = {"src", "href", "xlink:href", "srcset", "data", "action", "poster", "background"}


class Run(NamedTuple):
    """The folders of one small run."""

    normalised: Path
    model: Path
    reports: Path
    timings: Path
    exported: Path

    def edit(self, name, **changes):
        path = self.model / name if name == "model.json" else self.reports / name
        write_json(path, json.loads(path.read_text()) | changes)


class Page(HTMLParser):
    """What the tests ask of a page."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.attributes, self.images, self.texts, self.open = [], [], [], [], []
        self.feed(content)
        self.close()
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self.open.append(tag)
        if tag == "img":
            self.images.append(dict(attributes))

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if self.open and self.open[-1] not in {"style", "script"}:
            self.texts.append(data)


@pytest.fixture
def small_run(tmp_path):
    return _make_run(tmp_path)


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """The page of a run that went well, for the tests that only look."""
    return _report(_make_run(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def page(content):
    return Page(content)


def _make_run(folder):
    folders = Run(*(folder / name for name in ("normalised", "model", "reports", "timings", "exports/model.onnx")))
    generator = np.random.default_rng(7)
    parts = {name: _split(generator, count) for name, count in PER_CLASS.items()}
    for name, part in parts.items():
        splits.write(folders.normalised, name, part)
    data = {name: digit * 64 for name, digit in zip(parts, "123", strict=True)}
    counts = {name: len(part.labels) for name, part in parts.items()}
    write_json(folders.normalised / splits.STATS, {"images": counts, "data": data})
    _write_model(folders, data)
    _write_reports(folders, parts["test"].labels, data["test"])
    for stage, seconds in (("train", 472.08), ("gate", 0.2)):
        write_json(folders.timings / f"{stage}.json", {"seconds": seconds, "peak_bytes": 889_700_352})
    folders.exported.parent.mkdir()
    folders.exported.write_bytes(b"onnx")
    return folders


def _split(generator, per_class):
    labels = np.repeat(np.arange(10, dtype=np.uint8), per_class)
    return Split(generator.integers(0, 256, (len(labels), SIDE, SIDE), np.uint8), labels)


def _write_model(folders, data):
    parameters = {"normalise": {"validation_per_class": 2}, "train": {"peak_rate": 0.0041, "epochs": 2}}
    description = {
        "weights": WEIGHTS,
        "recipe": "swift",
        "model": "residual",
        "parameters_trained": 116602,
        "precision": "float32",
    }
    write_json(folders.model / "model.json", {**description, "data": data, "parameters": parameters})


def _write_reports(folders, labels, test_digest):
    predicted = labels.copy()
    predicted[24], predicted[3], predicted[0] = 0, 2, 6  # Shirt 0 → T-shirt/top, T-shirt/top → Pullover and Shirt
    probabilities = np.full(len(labels), 0.9)
    probabilities[[24, 3, 0]] = 0.9876, 0.5, 0.75
    rows = zip(range(len(labels)), labels, predicted, probabilities, strict=True)
    with (_folder(folders.reports) / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "actual", "predicted", "probability"])
        writer.writerows((number, CLASSES[was], CLASSES[said], f"{sure:.4f}") for number, was, said, sure in rows)
    history = "epoch,loss,accuracy,validation_loss,validation_accuracy\n1,0.9,0.7,0.4,0.85\n2,0.6,0.8,0.3,0.8765\n"
    write_text(folders.reports / "history.csv", history)
    matrix = metrics.confusion(labels, predicted)
    measured = {
        "accuracy": 0.925,
        "accuracy_low": 0.8014,
        "accuracy_high": 0.9742,
        "images": len(labels),
        "worst_class": "T-shirt/top",
        "worst_recall": 0.5,
        "calibration_error": 0.0457,
        "classes": {name: values._asdict() for name, values in metrics.per_class(matrix).items()},
        "confused": [pair._asdict() for pair in metrics.most_confused(matrix, 5)],
        "weights": WEIGHTS,
        "test_data": test_digest,
    }
    write_json(folders.reports / "metrics.json", measured)
    limits = {"min_accuracy": 0.9, "min_recall": 0.45}
    verdict = {"passed": True, "reasons": [], "limits": limits, "weights": WEIGHTS}
    write_json(folders.reports / "verdict.json", verdict)
    write_json(folders.reports / "expectations.json", {"train images": {"results": [*_expectations(success=True)]}})
    agreement = {"images": 40, "largest_difference": 1.2e-06, "same_class": 40, "latency_us": 256.6, "bytes": 470991}
    write_json(folders.reports / "export.json", {**agreement, "weights": WEIGHTS, "published": True, "reasons": []})


def _folder(path):
    path.mkdir(parents=True, exist_ok=True)
    return path


def _expectations(*, success):
    for kind, arguments, result in (
        (
            "expect_column_mean_to_be_between",
            {"column": "brightness", "min_value": 65.0, "max_value": 81.0},
            {"observed_value": 72.94},
        ),
        (
            "expect_column_values_to_be_in_set",
            {"column": "type", "value_set": ["uint8"]},
            {"unexpected_count": 0, "element_count": 1},
        ),
        ("expect_table_row_count_to_equal", {"value": 60}, {"observed_value": 60}),
    ):
        yield {"success": success, "expectation_config": {"type": kind, "kwargs": arguments}, "result": result}


def _report(folders, samples_per_class=2, mistakes=20):
    target, summary = folders.reports / "report.html", folders.reports / "report.md"
    numbers = Report(samples_per_class=samples_per_class, mistakes=mistakes)
    report.run(numbers, *folders, target, summary)
    return target.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param("This model passed the gate", id="verdict"),
        pytest.param("swift is right about 92.50% of 40 test images", id="sentence"),
        pytest.param("95 % interval 80.14% … 97.42%", id="interval"),
        pytest.param("Worst class 50.0% T-shirt/top", id="worst class"),
        pytest.param("Calibration error 0.046", id="calibration"),
        pytest.param("same class for 40 of 40; probabilities differ by 1.2e-06", id="agreement"),
        pytest.param("Exported file 471 kB 470,991 bytes", id="file"),
        pytest.param("Latency 257 µs", id="latency"),
        pytest.param("Accuracy 92.50% 90.00%", id="limit"),
        pytest.param("T-shirt/top worst 0.667 0.500 0.571", id="class table"),
        pytest.param("T-shirt/top taken for Shirt 1", id="confused pair"),
        pytest.param("✗ T-shirt/top 98.8% sure ✓ Shirt", id="mistake"),
        pytest.param("87.65%", id="learning curve"),
        pytest.param("validation 20 2", id="class balance"),
        pytest.param("3 of 3 expectations were met", id="checks"),
        pytest.param("“brightness” mean to be between 72.94 65 … 81", id="check"),
        pytest.param("“type” values to be in set 0 of 1 otherwise uint8", id="check of values"),
        pytest.param("train 472.1 s 890 MB", id="timing"),
        pytest.param(f"weights {WEIGHTS}", id="digest of the weights"),
        pytest.param(f"test images and labels {'3' * 64}", id="digest of the data"),
        pytest.param("train.peak_rate 0.0041", id="parameter"),
        pytest.param(f"numpy {np.__version__}", id="version"),
        pytest.param(f"Python {sys.version.split()[0]}", id="python"),
        pytest.param("processor", id="processor"),
    ],
)
def test_page_shows(page, shown):
    assert shown in page.text


def test_pictures_are_png_with_alternatives(small_run):
    images = Page(_report(small_run, samples_per_class=3, mistakes=2)).images

    assert len(images) == 10 * 3 + 2
    assert all(image["src"].startswith("data:image/png;base64,") for image in images)
    assert all(image["alt"] for image in images)


def test_charts_have_labels_and_no_identifier_twice(page):
    identifiers = [value for name, value in page.attributes if name == "id"]

    assert (
        page.tags.count("svg")
        == sum(name == "aria-label" and "alidation" in value for name, value in page.attributes)
        == 3
    )
    assert len(identifiers) == len(set(identifiers))


def test_charts_use_the_colours_of_the_page(content):
    drawings = re.findall(r"<svg.*?</svg>", content, re.DOTALL)

    assert len(drawings) == 3
    assert not any(re.search(r"#[0-9a-f]{6}", drawing) for drawing in drawings)


def test_page_loads_nothing(content, page):
    addresses = [value for name, value in page.attributes if name in ADDRESSES]

    assert not {"script", "iframe", "object", "embed"} & set(page.tags)
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert all(address.startswith("#") for address in re.findall(r"url\(['\"]?([^)]*)", content))
    assert "@import" not in content
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'; img-src data:") in page.attributes


def test_page_says_how_many_images_were_admitted(small_run):
    file = small_run.normalised / splits.STATS
    assert "admitted" not in _report(small_run)

    write_json(file, json.loads(file.read_text()) | {"admitted": 7_263})

    assert ", 7,263 of them of pictures that were admitted from data/incoming." in _report(small_run)


def test_page_leads_to_the_experiments_that_there_are(small_run):
    write_text(small_run.reports / "experiments/tuning/two_conv/index.html", "a page")

    assert ("href", "experiments/tuning/two_conv/index.html") in Page(_report(small_run)).attributes


def test_mistakes_are_the_surest_first(small_run):
    names = [image["alt"] for image in Page(_report(small_run, mistakes=2)).images if image["alt"].startswith("Test")]

    assert names == ["Test image 24: Shirt, taken for T-shirt/top", "Test image 0: T-shirt/top, taken for Shirt"]


def test_model_without_mistakes_has_none_shown(small_run):
    assert not [image for image in Page(_report(small_run, mistakes=0)).images if image["alt"].startswith("Test")]


def test_more_samples_than_images_show_each_once(small_run):
    images = Page(_report(small_run, samples_per_class=20, mistakes=0)).images

    assert len({image["alt"] for image in images}) == len(images) == 60


def test_refused_model_shows_reasons(small_run):
    small_run.edit("verdict.json", passed=False, reasons=["accuracy is 0.925, the limit is 0.9500"])

    page = Page(_report(small_run))

    assert "This model was refused" in page.text
    assert "accuracy is 0.925, the limit is 0.9500" in page.text
    assert "not exported the gate refused this model what was exported before is untouched" in page.text
    assert "| gate | refused |" in (small_run.reports / "report.md").read_text()


def test_export_absent_is_not_exported(small_run):
    (small_run.reports / "export.json").unlink()
    small_run.exported.unlink()

    assert "✗ not exported this model has not been exported yet" in Page(_report(small_run)).text


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        pytest.param({"weights": OTHER}, "this model has not been exported yet", id="of another model"),
        pytest.param(
            {"published": False, "reasons": ["Keras and ONNX differ by 0.2"]}, "differ by 0.2", id="disagrees"
        ),
    ],
)
def test_export_that_is_not_of_this_model(small_run, changes, shown):
    small_run.edit("export.json", **changes)

    text = Page(_report(small_run)).text

    assert shown in text
    assert "what was exported before is untouched" in text
    assert "470,991 bytes" not in text


def test_exported_file_absent_names_the_command(small_run):
    small_run.exported.unlink()

    assert "model.onnx is absent: `dvc checkout` brings it back" in Page(_report(small_run)).text


def test_failed_check_is_listed(small_run):
    write_json(small_run.reports / "expectations.json", {"train images": {"results": [*_expectations(success=False)]}})

    text = Page(_report(small_run)).text

    assert "✗ 3 failed 0 of 3 expectations were met" in text
    assert "train images: “brightness” mean to be between: observed 72.94, expected 65 … 81" in text


def test_check_that_raised_has_failed(small_run):
    configuration = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "label"}}
    single = {"expectation_config": configuration, "exception_info": {"exception_message": "no column label"}}
    write_json(small_run.reports / "expectations.json", {"train images": {"results": [single]}})

    assert (
        "“label” values to not be null: observed no column label, expected none missing"
        in Page(_report(small_run)).text
    )


def test_stages_that_did_not_run_here_are_left_out(small_run):
    for path in small_run.timings.iterdir():
        path.unlink()

    assert "No stage has run here" in Page(_report(small_run)).text


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        pytest.param("verdict.json", {"passed": False, "reasons": [HOSTILE]}, id="reason"),
        pytest.param("model.json", {"recipe": HOSTILE}, id="name of the recipe"),
        pytest.param("model.json", {"parameters": {"train": {HOSTILE: HOSTILE}}}, id="parameter"),
        pytest.param("metrics.json", {"worst_class": HOSTILE}, id="class"),
        pytest.param("export.json", {"published": False, "reasons": [HOSTILE]}, id="reason of the export"),
        pytest.param("expectations.json", {HOSTILE: {"results": []}}, id="table of expectations"),
    ],
)
def test_hostile_text_is_only_text(small_run, name, changes):
    small_run.edit(name, **changes)

    page = Page(_report(small_run))

    assert HOSTILE.lower() in page.text.lower()
    assert "script" not in page.tags


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        pytest.param(
            "model.json", {"weights": OTHER}, "different runs: weights bbbbbbbbbbbb in model.json", id="model"
        ),
        pytest.param("metrics.json", {"weights": OTHER}, "bbbbbbbbbbbb in metrics.json.*`dvc repro`", id="metrics"),
        pytest.param("verdict.json", {"weights": OTHER}, "bbbbbbbbbbbb in verdict.json", id="verdict"),
        pytest.param("verdict.json", {"weights": None}, "None in verdict.json", id="no digest"),
        pytest.param(
            "metrics.json", {"test_data": OTHER}, "different runs: test data 333333333333 in stats.json", id="test data"
        ),
    ],
)
def test_files_of_different_runs_are_refused(small_run, name, changes, message):
    small_run.edit(name, **changes)

    with pytest.raises(DataError, match=message):
        _report(small_run)
    assert not (small_run.reports / "report.html").exists()


@pytest.mark.parametrize(
    ("line", "replacement"),
    [
        pytest.param("39,Ankle boot,Ankle boot,0.9000\n", "", id="an image less"),
        pytest.param("39,Ankle boot,Ankle boot", "39,Bag,Ankle boot", id="another label"),
        pytest.param("39,Ankle boot,Ankle boot", "39,Ankle boot,Hat", id="unknown class"),
    ],
)
def test_predictions_of_other_images_are_refused(small_run, line, replacement):
    path = small_run.reports / "predictions.csv"
    path.write_text(path.read_text().replace("\r\n", "\n").replace(line, replacement))

    with pytest.raises(DataError, match=r"predictions.csv is not of these 40 test images.*`dvc repro -f evaluate`"):
        _report(small_run)


@pytest.mark.parametrize(
    "history",
    [
        pytest.param("", id="empty"),
        pytest.param("epoch,loss,accuracy,validation_loss,validation_accuracy\n", id="no rows"),
        pytest.param("epoch,loss\n1,0.9\n", id="columns missing"),
        pytest.param("epoch,loss,accuracy,validation_loss,validation_accuracy\n1,0.9\n", id="cut short"),
    ],
)
def test_broken_history_is_refused(small_run, history):
    (small_run.reports / "history.csv").write_text(history)

    with pytest.raises(DataError, match=r"history.csv lacks rows or columns.*`dvc repro -f train`"):
        _report(small_run)


def test_same_input_same_bytes(small_run):
    first = _report(small_run)
    summary = (small_run.reports / "report.md").read_bytes()

    assert _report(small_run) == first
    assert (small_run.reports / "report.md").read_bytes() == summary


def test_stage_imports_no_heavy_library():
    command = (
        "import sys, tasks.report; print({'tensorflow', 'keras', 'great_expectations', 'pandas'} & set(sys.modules))"
    )
    root = Path(report.__file__).parent.parent

    found = subprocess.run([sys.executable, "-c", command], check=True, capture_output=True, text=True, cwd=root)

    assert found.stdout.strip() == "set()"
