"""Check the raw images and labels with Great Expectations, before anything is made of them.

GX sees tables of facts about images (a row per image, per class and per split), never their 47 million pixels. The
number of rows is always expected first: expectations about rows pass where there are none.
"""

import logging
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks import idx
from tasks.arrays import CLASSES, SIDE, Split
from tasks.checks import checks_of
from tasks.errors import DataError
from tasks.expectations import Table, as_table, between, expect, one_of, row_count, total, unmet
from tasks.files import write_json, write_text
from tasks.params import Validate

logger = logging.getLogger(__name__)


def run(params: Validate, raw: Path, report: Path, summary: Path) -> None:
    """Write GX's results and a table of them; then refuse if an expectation failed."""
    train, test = idx.read_split(raw, "train"), idx.read_split(raw, "t10k")
    results = expect(list(tables(train, test, params)))
    checks = [check for name, result in results.items() for check in checks_of(name, result)]
    write_json(report, results)
    write_text(summary, as_table(checks))
    logger.info("validate: %d of %d expectations met", sum(check.passed for check in checks), len(checks))
    if failed := unmet(checks):
        raise DataError(
            f"{'; '.join(failed)}. All results: {report}. Mend the files in {raw}, or run `dvc repro -f ingest`."
        )


def tables(train: Split, test: Split, params: Validate) -> Iterator[Table]:
    """Everything that is expected of the two splits.

    Args:
        train: images (n, height, width) uint8 and labels (n,) uint8; n may be 0.
        test: likewise.
        params: counts and bounds.
    """
    seen = _contents(train)
    for name, split, per_class, others in (
        ("train", train, params.train_per_class, set[bytes]()),
        ("test", test, params.test_per_class, set(seen)),
    ):
        yield _split_table(name, split, others, params)
        yield _class_table(name, split, per_class)
        yield _image_table(name, split, per_class, params)


def _split_table(name: str, split: Split, others: set[bytes], params: Validate) -> Table:
    contents = _contents(split)
    facts = pd.DataFrame(
        {
            "shape": [" × ".join(map(str, split.images.shape[1:]))],
            "type": [str(split.images.dtype)],
            "label dimensions": [split.labels.ndim],
            "labels per image": [len(split.labels) / len(split.images) if len(split.images) else float("nan")],
            "copies within": [len(contents) - len(set(contents))],
            "copies across": [sum(content in others for content in contents)],
        }
    )
    expectations = [
        row_count(1),
        one_of("shape", [f"{SIDE} × {SIDE}"]),
        one_of("type", ["uint8"]),
        total("label dimensions", 1, 1),
        total("labels per image", 1, 1),
        total("copies within", 0, params.max_copies_within),
        total("copies across", 0, params.max_copies_across),
    ]
    return Table(f"{name} split", facts, expectations)


def _class_table(name: str, split: Split, per_class: int) -> Table:
    counts = np.bincount(split.labels.ravel(), minlength=len(CLASSES))[: len(CLASSES)]
    facts = pd.DataFrame([counts], columns=list(CLASSES))
    return Table(f"{name} classes", facts, [row_count(1), *(total(kind, per_class, per_class) for kind in CLASSES)])


def _image_table(name: str, split: Split, per_class: int, params: Validate) -> Table:
    pixels = split.images.reshape(len(split.images), math.prod(split.images.shape[1:]))
    empty = not pixels.size
    least = np.zeros(0) if empty else pixels.min(axis=1).astype(int)
    greatest = np.zeros(0) if empty else pixels.max(axis=1).astype(int)
    facts = pd.DataFrame(
        {
            "least": least,
            "greatest": greatest,
            "contrast": greatest - least,
            "brightness": np.zeros(0) if empty else pixels.mean(axis=1),
        }
    )
    facts["label"] = pd.Series(split.labels.ravel().astype(int)).reindex(facts.index)
    bounds = {"min_value": params.min_brightness, "max_value": params.max_brightness}
    expectations = [
        row_count(per_class * len(CLASSES)),
        ("ExpectColumnValuesToNotBeNull", {"column": "label"}),
        between("label", 0, len(CLASSES) - 1),
        ("ExpectColumnMinToBeBetween", {"column": "least", "min_value": 0, "max_value": 0}),
        ("ExpectColumnMaxToBeBetween", {"column": "greatest", "min_value": 255, "max_value": 255}),
        ("ExpectColumnMeanToBeBetween", {"column": "brightness", **bounds}),
        between("contrast", 1, 255),  # 0: one grey all over, blank included
    ]
    return Table(f"{name} images", facts, expectations)


def _contents(split: Split) -> list[bytes]:
    images: NDArray[np.uint8] = split.images
    return [image.tobytes() for image in images]
