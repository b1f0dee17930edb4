"""Check the labelled pictures in data/incoming; what passes joins the training images, the rest is set aside.

Great Expectations judges each picture, and then what is left of them as a whole. Nothing is taken from data/incoming:
what is set aside is copied, with its reason, and looked at afresh at every run.
"""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from seamline.reading import shown
from tasks import candidates, idx, set_aside, splits
from tasks.arrays import CLASSES, SIDE, Split
from tasks.candidates import Candidate
from tasks.checks import checks_of
from tasks.errors import DataError
from tasks.expectations import Expectation, Table, as_table, between, expect, one_of, row_count, total, unmet, without
from tasks.files import write_json, write_text
from tasks.incoming import FOLDERS, no_kind
from tasks.params import Admit
from tasks.set_aside import Reasons, as_csv

logger = logging.getLogger(__name__)

ADMITTED = "admitted"  # name of the split
PICTURES = "pictures.csv"  # which picture each training image is of
SWAMPED = "swamped"
ROWS = {"unexpected_list", "unexpected_index_list", "unexpected_index_query", "partial_unexpected_index_list"}


def run(params: Admit, raw: Path, incoming: Path, admitted: Path, aside: Path, report: Path, summary: Path) -> None:
    """Write what is admitted, what is set aside with its reasons, and what was expected; then refuse if too much is."""
    train, test = idx.read_split(raw, "train"), idx.read_split(raw, "t10k")
    those = candidates.read(incoming, params.views)
    facts = candidates.facts(those, train, test)
    judged = expect([Table("incoming", facts, [row_count(len(those)), *rules(params).values()])], "COMPLETE")
    reasons = verdicts(facts, judged["incoming"], params)
    reasons |= swamped(those, reasons, allowed(train, params))
    passed = [one for number, one in enumerate(those) if number not in reasons]
    whole = expect(list(tables(passed, len(those), reasons, train, params)))
    _write_admitted(admitted, passed)
    set_aside.write(aside, incoming, those, reasons)
    write_json(report, without(judged | whole, ROWS))
    checks = [check for name, result in whole.items() for check in checks_of(name, result)]
    looked = checks_of("incoming", judged["incoming"])
    write_text(summary, _summary(those, reasons, passed) + as_table(looked + checks))
    logger.info("admit: %d of %d pictures admitted, %d set aside", len(passed), len(those), len(reasons))
    if failed := unmet(checks) + silent(judged["incoming"]):
        reasons_file = aside / set_aside.REASONS
        raise DataError(
            f"refused: {'; '.join(failed)}. Reasons: {reasons_file}. Mend or remove those pictures in {incoming}."
        )


def rules(params: Admit) -> dict[str, Expectation]:
    """What is expected of each picture, by the reason for which it is set aside otherwise; the first one counts."""
    return {
        "unreadable": one_of("fault", [candidates.NOTHING]),
        "unknown-kind": one_of("kind", list(FOLDERS)),
        "contradicted": between("kinds it is said to be", 0, 1),
        "copy": one_of("copy of", [candidates.NOTHING]),
        "like-a-test-image": between("grey levels from a test image", params.min_test_distance, 255),
        "brightness": between("brightness", params.min_brightness, params.max_brightness),
        "outline": between("share lit", params.min_lit, params.max_lit),
        "unlike-its-kind": between("likeness to its kind", params.min_likeness, 1),
    }


def verdicts(facts: pd.DataFrame, judged: dict[str, Any], params: Admit) -> Reasons:
    """Which pictures are not as expected: number → the reason's word, and the reason in words."""
    reasons: Reasons = {}
    for (word, rule), single in zip(rules(params).items(), judged["results"][1:], strict=True):
        for number in single["result"].get("unexpected_index_list") or []:
            reasons.setdefault(number, (word, _sentence(word, facts.iloc[number], rule[1])))
    return dict(sorted(reasons.items()))


def _sentence(word: str, row: pd.Series, arguments: dict[str, Any]) -> str:
    value = row[arguments["column"]]
    if word == "unreadable":
        return str(value)
    if word == "unknown-kind":
        return no_kind(value)
    if word == "copy":
        return f"a copy of {value}"
    if word == "contradicted":
        return f"the same picture lies in {value} kinds' folders: leave it in one"
    return f"{arguments['column']} is {value:.3g}, expected {arguments['min_value']} … {arguments['max_value']}"


def allowed(train: Split, params: Admit) -> NDArray[np.int_]:
    """How many training images of each kind may be admitted, (10,)."""
    own = np.bincount(train.labels, minlength=len(CLASSES))
    most: NDArray[np.int_] = np.floor(params.max_share * own).astype(int)
    return most


def swamped(those: list[Candidate], reasons: Reasons, most: NDArray[np.int_]) -> Reasons:
    """The pictures beyond what their kind may have, in the order of their digests.

    That order is nobody's choice, and a picture that comes later moves few others out.
    """
    left, beyond = most.copy(), {}
    passing = [number for number in range(len(those)) if number not in reasons]
    for number in sorted(passing, key=lambda number: those[number].digest):
        label = FOLDERS[those[number].kind]
        left[label] -= len(those[number].views)
        if left[label] < 0:
            left[label] += len(those[number].views)
            beyond[number] = (SWAMPED, f"{those[number].kind} has its {most[label]:,} training images already")
    return beyond


def tables(passed: list[Candidate], count: int, reasons: Reasons, train: Split, params: Admit) -> list[Table]:
    """What is expected of all pictures together, and of the training images that are made of them."""
    split = as_split(passed)
    failed = sum(word != SWAMPED for word, _ in reasons.values())  # too much of a good thing is no fault
    share = failed / count if count >= params.min_pictures else 0.0
    kinds = np.bincount(split.labels, minlength=len(CLASSES))
    most = zip(CLASSES, allowed(train, params).tolist(), strict=True)
    pixels = split.images.reshape(-1, SIDE**2).astype(int)
    facts = pd.DataFrame({"label": split.labels.astype(int), "contrast": np.ptp(pixels, axis=1)})
    labels = between("label", 0, len(CLASSES) - 1)
    one = pd.DataFrame({"pictures": [len(passed) + len(reasons)], "share set aside": [share]})
    each = pd.DataFrame([kinds], columns=list(CLASSES))
    return [
        Table(
            "pictures",
            one,
            [row_count(1), total("pictures", count, count), total("share set aside", 0, params.max_set_aside)],
        ),
        Table("admitted kinds", each, [row_count(1), *(total(kind, 0, limit) for kind, limit in most)]),
        Table("admitted images", facts, [row_count(int(kinds.sum())), labels, between("contrast", 1, 255)]),
    ]


def as_split(those: list[Candidate]) -> Split:
    """Their views, picture after picture."""
    labels = np.repeat([FOLDERS[one.kind] for one in those], [len(one.views) for one in those]).astype(np.uint8)
    return Split(np.concatenate([candidates.NONE, *(one.views for one in those)]), labels)


def silent(judged: dict[str, Any]) -> list[str]:
    """Of the rules that failed without naming a picture, because they raised, a sentence each."""
    checks = zip(checks_of("incoming", judged), judged["results"], strict=True)
    return unmet([check for check, single in checks if not single["result"].get("unexpected_index_list")])


def _write_admitted(folder: Path, passed: list[Candidate]) -> None:
    splits.write(folder, ADMITTED, as_split(passed))
    rows = [[shown(one.path), one.digest, one.kind, len(one.views)] for one in passed]
    write_text(folder / PICTURES, as_csv(["file", "sha256", "kind", "images"], rows))


def _summary(those: list[Candidate], reasons: Reasons, passed: list[Candidate]) -> str:
    kinds = Counter(one.kind for one in passed)
    words = Counter(word for word, _ in reasons.values())
    lines = [f"{len(passed):,} of {len(those):,} pictures admitted.\n"]
    if those:
        rows = [f"| admitted | {kind} | {kinds[kind]:,} |" for kind in FOLDERS if kinds[kind]]
        rows += [f"| set aside | {word} | {count:,} |" for word, count in words.most_common()]
        lines += ["| | | pictures |", "|---|---|---:|", *rows, ""]
    return "\n".join([*lines, ""])
