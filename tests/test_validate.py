import json
import logging

import numpy as np
import pandas as pd
import pytest
import yaml

from tasks import validate
from tasks.arrays import Split
from tasks.checks import checks_of
from tasks.errors import DataError

BOUNDS = {"train_per_class": 2, "test_per_class": 1, "max_copies_within": 1}


@pytest.fixture(scope="module")
def params(numbers):
    return numbers.validate_.model_copy(update=BOUNDS)


@pytest.fixture(scope="module", autouse=True)
def _great_expectations():
    """Loaded before the first test, because that takes five seconds."""
    validate.expect([])


@pytest.fixture
def train(garments):
    return garments(2, 1)


@pytest.fixture
def test(garments):
    return garments(1, 2)


@pytest.fixture
def refused(params, write_raw, tmp_path):
    """(train, test) → what validate says of them, in one line; the report and the summary stand by then."""

    def said(train, test):
        write_raw(tmp_path / "raw", train, test)
        with pytest.raises(
            DataError, match=r"^[^\n]+\. All results: .*report\.json\. Mend the files in .*raw, or "
        ) as caught:
            validate.run(params, tmp_path / "raw", tmp_path / "report.json", tmp_path / "validate.md")
        results = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
        assert not all(result["success"] for result in results.values())
        assert "| ✗ | " in (tmp_path / "validate.md").read_text(encoding="utf-8")
        return str(caught.value)

    return said


def changed(split, *, images=None, labels=None):
    """The split with some images or labels replaced: {index: value}."""
    copies = Split(split.images.copy(), split.labels.copy())
    for index, value in (images or {}).items():
        copies.images[index] = value
    for index, value in (labels or {}).items():
        copies.labels[index] = value
    return copies


def without(split, label):
    return Split(split.images[split.labels != label], split.labels[split.labels != label])


def test_good_data_pass(params, train, test, write_raw, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    write_raw(tmp_path / "raw", train, test)

    validate.run(params, tmp_path / "raw", tmp_path / "report.json", tmp_path / "validate.md")

    results = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert list(results) == [
        f"{split} {facts}" for split in ("train", "test") for facts in ("split", "classes", "images")
    ]
    assert all(result["success"] for result in results.values())
    rows = (tmp_path / "validate.md").read_text(encoding="utf-8").splitlines()[2:]
    assert len(rows) == 2 * (7 + 11 + 7)
    assert all(row.startswith("| ✓ | ") for row in rows)
    assert "validate: 50 of 50 expectations met" in caplog.text


def test_copies_up_to_the_bound_pass(params, train, test, write_raw, tmp_path):
    write_raw(tmp_path / "raw", changed(train, images={1: train.images[0]}), test)

    validate.run(params, tmp_path / "raw", tmp_path / "report.json", tmp_path / "validate.md")

    assert "| ✓ | train split: “copies within” sum to be between | 1 | 0 … 1 |" in (tmp_path / "validate.md").read_text(
        encoding="utf-8"
    )


BAD_TRAIN = [
    pytest.param(
        lambda train: Split(train.images[:-1], train.labels[:-1]),
        [
            "train classes: “Ankle boot” sum to be between: observed 1, expected 2",
            "train images: table row count to equal: observed 19, expected 20",
        ],
        id="one too few",
    ),
    pytest.param(
        lambda train: Split(
            np.concatenate([train.images, ~train.images[:1] // 3]), np.append(train.labels, np.uint8(0))
        ),
        [
            "train classes: “T-shirt/top” sum to be between: observed 3, expected 2",
            "train images: table row count to equal: observed 21, expected 20",
        ],
        id="one too many",
    ),
    pytest.param(
        lambda train: without(train, 3),
        ["train classes: “Dress” sum to be between: observed 0, expected 2"],
        id="a class missing",
    ),
    pytest.param(
        lambda train: changed(train, labels={0: 1}),
        [
            "train classes: “T-shirt/top” sum to be between: observed 1, expected 2",
            "train classes: “Trouser” sum to be between: observed 3, expected 2",
        ],
        id="a label wrong",
    ),
    pytest.param(
        lambda train: changed(train, labels={0: 10, 5: 255}),
        ["train images: “label” values to be between: observed 2 of 20 otherwise (10, 255), expected 0 … 9"],
        id="labels out of range",
    ),
    pytest.param(
        lambda train: Split(train.images, train.labels[:-1]),
        [
            "train split: “labels per image” sum to be between: observed 0.95, expected 1",
            "train images: “label” values to not be null: observed 1 of 20 otherwise (None), expected none",
        ],
        id="a label missing",
    ),
    pytest.param(
        lambda train: Split(train.images, np.append(train.labels, np.uint8(0))),
        ["train split: “labels per image” sum to be between: observed 1.05, expected 1"],
        id="a label over",
    ),
    pytest.param(
        lambda train: Split((train.images > 0).astype(np.uint8), train.labels),
        [
            "train images: “brightness” mean to be between: observed 0.3",
            ", expected 65 … 81",
            "train images: “greatest” max to be between: observed 1, expected 255",
        ],
        id="pixels 0 to 1",
    ),
    pytest.param(
        lambda train: Split(255 - train.images, train.labels),
        ["train images: “brightness” mean to be between: observed 18", ", expected 65 … 81"],
        id="inverted",
    ),
    pytest.param(
        lambda train: Split(np.maximum(train.images, 1), train.labels),
        ["train images: “least” min to be between: observed 1, expected 0"],
        id="no black",
    ),
    pytest.param(
        lambda train: Split(np.minimum(train.images, 254), train.labels),
        ["train images: “greatest” max to be between: observed 254, expected 255"],
        id="no white",
    ),
    pytest.param(
        lambda train: changed(train, images={4: 0}),
        ["train images: “contrast” values to be between: observed 1 of 20 otherwise (0), expected 1 … 255"],
        id="a blank image",
    ),
    pytest.param(
        lambda train: changed(train, images={4: 73, 7: 90}),
        ["train images: “contrast” values to be between: observed 2 of 20 otherwise (0, 0), expected 1 … 255"],
        id="two grey images",
    ),
    pytest.param(
        lambda train: changed(train, images={1: train.images[0], 3: train.images[0]}),
        ["train split: “copies within” sum to be between: observed 2, expected 0 … 1"],
        id="copies within",
    ),
    pytest.param(
        lambda train: Split(train.images[:, :, :27].copy(), train.labels),
        ["train split: “shape” values to be in set: observed 1 of 1 otherwise (28 × 27), expected 28 × 28"],
        id="shape",
    ),
    pytest.param(
        lambda train: Split(train.labels, train.labels),
        ["train split: “shape” values to be in set: observed 1 of 1 otherwise, expected 28 × 28"],
        id="labels in place of images",
    ),
    pytest.param(
        lambda train: Split(train.images[:, :0], train.labels),
        [
            "train split: “shape” values to be in set: observed 1 of 1 otherwise (0 × 28), expected 28 × 28",
            "train images: table row count to equal: observed 0, expected 20",
            "train images: “brightness” mean to be between: observed None, expected 65 … 81",
        ],
        id="images without pixels",
    ),
    pytest.param(
        lambda train: Split(train.images[:0], train.labels[:0]),
        ["train images: table row count to equal: observed 0, expected 20"],
        id="no images",
    ),
    pytest.param(
        lambda train: Split(train.images, train.images),
        ["train classes: “T-shirt/top” sum to be between: observed 1"],
        id="images in place of labels",
    ),
    pytest.param(
        lambda train: Split(train.images, train.labels[:, None]),
        ["label"],
        id="labels of two dimensions",
    ),
]


@pytest.mark.parametrize(("spoil", "said"), BAD_TRAIN)
def test_bad_training_data_are_refused(train, test, refused, spoil, said):
    message = refused(spoil(train), test)

    assert [part for part in said if part not in message] == []


def test_copies_across_the_splits_are_refused(train, test, refused):
    message = refused(train, changed(test, images={0: train.images[0]}))

    assert message.startswith("test split: “copies across” sum to be between: observed 1, expected 0. All results: ")


def test_test_data_are_held_to_their_own_count(train, test, refused):
    message = refused(train, without(test, 9))

    assert "test classes: “Ankle boot” sum to be between: observed 0, expected 1; " in message
    assert "test images: table row count to equal: observed 9, expected 10" in message
    assert "train" not in message.partition(". All results")[0]


def test_number_of_rows_is_expected_of_every_table(params, train, test):
    """Without it, an empty table would pass: GX's expectations about rows hold where there are none."""
    tables = list(validate.tables(train, test, params))

    assert [table.expectations[0][0] for table in tables] == ["ExpectTableRowCountToEqual"] * 6


def test_expectation_that_raises_has_failed():
    table = validate.Table(
        "facts",
        pd.DataFrame({"there": [1]}),
        [
            ("ExpectColumnSumToBeBetween", {"column": "absent", "min_value": 0, "max_value": 1}),
            ("ExpectColumnValuesToBeBetween", {"column": "absent", "min_value": 0, "max_value": 1}),
            ("ExpectColumnSumToBeBetween", {"column": "there", "min_value": 0, "max_value": 1}),
        ],
    )

    checks = checks_of("facts", validate.expect([table])["facts"])

    assert {check.name: check.passed for check in checks} == {
        "facts: “absent” sum to be between": False,
        "facts: “absent” values to be between": False,
        "facts: “there” sum to be between": True,
    }


def test_expectation_that_raises_says_why():
    table = validate.Table(
        "facts",
        pd.DataFrame({"there": [1]}),
        [("ExpectColumnSumToBeBetween", {"column": "absent", "min_value": 0, "max_value": 1})],
    )

    (check,) = checks_of("facts", validate.expect([table])["facts"])

    assert 'The column "absent" in BatchData does not exist' in check.observed


@pytest.mark.parametrize("verdict", [{}, {"success": None}, {"success": "true"}, {"success": 1}], ids=str)
def test_expectation_without_a_plain_verdict_has_failed(verdict):
    single = {"expectation_config": {"type": "expect_table_row_count_to_equal", "kwargs": {"value": 1}}, **verdict}

    (check,) = checks_of("facts", {"results": [single]})

    assert check == ("facts: table row count to equal", False, "nothing", "1")


def test_validator_that_cannot_be_asked_is_a_bug_and_no_pass():
    table = validate.Table("facts", pd.DataFrame({"there": [1]}), [("ExpectNothing", {})])

    with pytest.raises(AttributeError, match="ExpectNothing"):
        validate.expect([table])


def test_report_is_the_same_at_every_run(params, train, test, write_raw, tmp_path):
    write_raw(tmp_path / "raw", changed(train, images={4: 0}), test)
    for name in ("first", "second"):
        with pytest.raises(DataError, match="contrast"):
            validate.run(params, tmp_path / "raw", tmp_path / f"{name}.json", tmp_path / f"{name}.md")

    assert (tmp_path / "first.json").read_bytes() == (tmp_path / "second.json").read_bytes()
    assert (tmp_path / "first.md").read_bytes() == (tmp_path / "second.md").read_bytes()


@pytest.mark.slow
def test_report_is_the_same_in_another_process(project, run_stage, params, train, test, write_raw, tmp_path):
    """Another hash seed, and everything imported afresh."""
    write_raw(tmp_path / "raw", changed(train, images={4: 0}), test)
    with pytest.raises(DataError, match="contrast"):
        validate.run(params, tmp_path / "raw", tmp_path / "here.json", tmp_path / "here.md")
    content = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    content["validate"] |= BOUNDS
    (project / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")

    done = run_stage("validate", "raw", "there.json", "there.md")

    assert (done.returncode, done.stderr) == (1, "")
    assert "contrast" in done.stdout.splitlines()[-1]
    assert (tmp_path / "there.json").read_bytes() == (tmp_path / "here.json").read_bytes()
    assert (tmp_path / "there.md").read_bytes() == (tmp_path / "here.md").read_bytes()
