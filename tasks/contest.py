"""Champion against challenger on the same images: what each is worth, and what speaks against the challenger.

Every comparison is written so that a figure that is no number (NaN) speaks against it.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seamline import Classifier, check
from seamline.bundle import Bundle
from seamline.sessions import INT8
from tasks import labelled, metrics, paired
from tasks.arrays import CLASSES, Labels, Probabilities, Split
from tasks.labelled import Pictures, Seen
from tasks.paired import Pairs
from tasks.params import Challenge


class Scores(NamedTuple):
    """How good a model is."""

    accuracy: float  # shares, 0 … 1
    calibration_error: float
    recalls: Mapping[str, float]

    @property
    def worst(self) -> tuple[str, float]:
        """The class that is found least often, and how often it is."""
        return min(self.recalls.items(), key=lambda pair: pair[1])


class Player(NamedTuple):
    """A bundle, and what it says of the test images."""

    bundle: Bundle
    precision: str  # of the model that answered
    right: NDArray[np.bool_]  # (n,): which test images it names
    scores: Scores
    seen: Seen | None  # of labelled pictures, if there are some


def play(folder: Path, bundle: Bundle, test: Split, bins: int, pictures: Pictures | None) -> Player:
    """Have a bundle answer the test images, and the labelled pictures if there are some.

    Args:
        folder: the bundle's.
        bundle: as it was read from there.
        test: the test images.
        bins: of the calibration error.
        pictures: labelled ones that decide nothing.
    """
    classifier = Classifier(folder, threads=len(os.sched_getaffinity(0)))
    probabilities = classifier.probabilities(np.asarray(test.images))
    found = scores(test.labels, probabilities, bins)
    seen = labelled.look(classifier, pictures) if pictures else None
    return Player(bundle, classifier.precision, probabilities.argmax(axis=1) == test.labels, found, seen)


def scores(labels: Labels, probabilities: Probabilities, bins: int) -> Scores:
    """Accuracy, calibration error and the recall of each class; not a number where a probability is none.

    Args:
        labels: (n,) uint8, n ≥ 1.
        probabilities: (n, 10) float32.
        bins: of the calibration error.
    """
    if not np.isfinite(probabilities).all():
        return Scores(math.nan, math.nan, dict.fromkeys(CLASSES, math.nan))
    matrix = metrics.confusion(labels, probabilities.argmax(axis=1).astype(np.uint8))
    recalls = {name: found.recall for name, found in metrics.per_class(matrix).items()}
    error = metrics.calibration_error(labels, probabilities, bins)
    return Scores(float(np.trace(matrix) / len(labels)), error, recalls)


def unkept(player: Player) -> list[str]:
    """Whether the model answers as well here as its bundle says."""
    told = player.bundle.manifest.get("int8" if player.precision == INT8 else "metrics")
    promised = told.get("accuracy") if isinstance(told, dict) else None
    found = player.scores.accuracy
    if isinstance(promised, float) and abs(found - promised) <= check.ACCURACY_LOST:
        return []
    said = f"{promised:.4f}" if isinstance(promised, float) else "nothing"
    return [f"its accuracy is {found:.4f}, its bundle says {said}"]


def as_metrics(found: Scores) -> dict[str, Any]:
    """As the gate reads it."""
    return {"accuracy": found.accuracy, "classes": {name: {"recall": value} for name, value in found.recalls.items()}}


def losses(challenger: Scores, champion: Scores, best: float, limits: Challenge) -> list[str]:
    """What the challenger loses of the champion's that the mean does not show; written so that NaN is a loss."""
    reasons = [
        f"recall of {name} falls from {before:.4f} to {challenger.recalls[name]:.4f}, "
        f"by more than {limits.max_class_drop}"
        for name, before in champion.recalls.items()
        if not before - challenger.recalls[name] <= limits.max_class_drop
    ]
    error, before = challenger.calibration_error, champion.calibration_error
    if not error <= limits.max_calibration_error:
        reasons.append(f"calibration error is {error:.4f}, the limit is {limits.max_calibration_error}")
    if not error - before <= limits.max_calibration_rise:
        reasons.append(
            f"calibration error rises from {before:.4f} to {error:.4f}, by more than {limits.max_calibration_rise}"
        )
    if not best - challenger.accuracy <= limits.max_drift:
        reasons.append(
            f"accuracy is {challenger.accuracy:.4f}, the best release had {best:.4f}: more than {limits.max_drift} lost"
        )
    return reasons


def worse(counted: Pairs, limits: Challenge) -> list[str]:
    """Whether the challenger is worse, or cannot be shown not to be."""
    low, high = paired.interval(counted, limits.confidence)
    chance = paired.mcnemar(counted)
    told = f"accuracy differs by {counted.difference:+.4f} ({limits.confidence:.0%}: {low:+.4f} … {high:+.4f})"
    if counted.lost > counted.won and not chance > 1 - limits.confidence:
        return [f"worse than the champion: {told}, McNemar's p is {chance:.2g}"]
    if not low >= -limits.margin:
        images = paired.enough(counted, limits.margin, limits.confidence)
        short = f"{counted.images:,} test images, {images:,} would do for equally good models"
        return [f"not enough evidence: {told}, which may be a loss of more than {limits.margin}; {short}"]
    return []


def described(player: Player) -> dict[str, Any]:
    """What was measured, JSON-ready; what is no number is null."""
    found = player.scores
    shares = {"accuracy": found.accuracy, "calibration_error": found.calibration_error, "worst_recall": found.worst[1]}
    return {
        "precision": player.precision,
        "worst_class": found.worst[0],
        **{name: finite(value) for name, value in shares.items()},
        "recalls": {name: finite(value) for name, value in found.recalls.items()},
        "pictures": player.seen and player.seen._asdict(),
    }


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
