"""What is said of a picture: its kind, and what is like it. Runs in a worker."""

from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seamline import likeness, pictures
from seamline.bundle import BundleError
from seamline.classifier import UNKNOWN, Classifier
from seamline.likeness import Index
from seamline.service.refusals import Refused, busy
from seamline.similar import ALIKE

DECIMALS = 6


class Serving(NamedTuple):
    """What a worker answers with."""

    classifier: Classifier
    version: int  # of the bundle
    outputs: dict[str, int]  # of the model, and their width
    shop: Index | None  # its pictures
    without_index: str  # why there is none


def opened(classifier: Classifier, version: int, file: str) -> Serving:
    """With the index of a shop, if one was given that this model made."""
    outputs = {"probabilities": len(classifier.classes)}
    with suppress(ValueError):  # exported without an embedding
        outputs["embedding"] = classifier.embed(np.zeros((1, pictures.SIDE, pictures.SIDE), np.uint8)).shape[1]
    index, fault = _index(classifier, file)
    return Serving(classifier, version, outputs, index, fault)


def _index(classifier: Classifier, file: str) -> tuple[Index | None, str]:
    if not file:
        return None, "This service was started without an index (--index FILE)."
    try:
        index = likeness.read(Path(file))
    except (OSError, ValueError) as error:
        return None, f"The index cannot be used: {error}"
    if index.model != classifier.digest:
        return None, "The index is another model's. Make it again: seamline index FOLDER"
    return index, ""


def classify(serving: Serving, picture: bytes) -> dict[str, Any]:
    """The kind of the garment in a picture file.

    Raises:
        Refused: 422, it cannot be read; 503, the model fails.
    """
    return _named(serving, _views(picture))


def _named(serving: Serving, views: NDArray[np.uint8]) -> dict[str, Any]:
    try:
        row = serving.classifier.view_probabilities(views).tolist()
    except BundleError as error:
        raise busy(str(error)) from error
    best = serving.classifier.best(row)
    return {
        "kind": best.name,
        "probability": round(best.probability, DECIMALS),
        "unknown": best.name == UNKNOWN,
        "probabilities": {
            name: round(share, DECIMALS) for name, share in zip(serving.classifier.classes, row, strict=True)
        },
        "version": serving.version,
        "model": serving.classifier.digest,
    }


def similar(serving: Serving, picture: bytes, k: int) -> dict[str, Any]:
    """The kind of the garment, and what the index has that is like it, the most alike first.

    Raises:
        Refused: 404, there is no index; 422, the picture cannot be read; 503, the model fails.
    """
    if serving.shop is None:
        raise Refused(404, serving.without_index)
    views = _views(picture)
    named = _named(serving, views)
    try:
        found = serving.classifier.similar(views[:1], serving.shop, k)[0]
    except BundleError as error:
        raise busy(str(error)) from error
    neighbours = [
        {"name": one.name, "similarity": round(one.likeness, DECIMALS), "alike": one.likeness >= ALIKE} for one in found
    ]
    return named | {"neighbours": neighbours}


def _views(picture: bytes) -> NDArray[np.uint8]:
    try:
        return pictures.from_picture(picture)
    except (ValueError, MemoryError) as error:
        reason = str(error) or "it takes too much memory"
        raise Refused(422, reason[:1].upper() + reason[1:]) from error
