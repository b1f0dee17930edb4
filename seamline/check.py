"""Whether a model answers on this very processor as it did where it was made: kernels differ between processors."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from seamline import bundle
from seamline.bundle import Bundle, Golden
from seamline.classifier import Classifier
from seamline.sessions import INT8

ACCURACY_LOST = 0.001  # share of the test images; more is another model


def golden_failures(classifier: Classifier, golden: Golden) -> list[str]:
    """What the model says otherwise than its golden vectors; nothing means that it may serve.

    Args:
        classifier: that is checked.
        golden: of the same bundle.
    """
    return golden.differences(classifier.probabilities(golden.images))


def serving_golden(classifier: Classifier, found: Bundle) -> Golden:
    """The golden vectors of the model that answers on this processor."""
    return bundle.golden(found, bundle.GOLDEN_INT8 if classifier.precision == INT8 else bundle.GOLDEN)


def proofs(folder: Path, public_key: bytes | None, data: Path | None) -> Iterator[tuple[str, list[str]]]:
    """What is proved of a bundle, one after another, each with the reasons why it fails.

    Args:
        folder: that holds the bundle.
        public_key: 32 bytes, or None: a signature is not asked for.
        data: a folder with test-images.npy, uint8 (n, 28, 28), and test-labels.npy, uint8 (n,); or None.
    """
    signed = " and the signature" if public_key else ""
    try:
        found = bundle.read(folder, public_key)
        yield f"every file's size and SHA-256{signed}: version {found.version}, {len(found.files)} files", []
        classifier = Classifier(folder, public_key=public_key)
        golden = serving_golden(classifier, found)
    except ValueError as error:
        yield f"{folder}", [str(error)]
        return
    yield (
        f"{len(golden.images)} golden vectors on this processor{_model(classifier, found)}",
        golden_failures(classifier, golden),
    )
    if data:
        yield _accuracy(classifier, data, found)


def _model(classifier: Classifier, found: Bundle) -> str:
    """Which model was asked, where a bundle has two."""
    if bundle.MODEL_INT8 not in found.files:
        return ""
    if classifier.precision == INT8:
        return ", int8 model"
    return f", float model (the int8 model is passed over: {'; '.join(classifier.int8_failures)})"


def _accuracy(classifier: Classifier, data: Path, found: Bundle) -> tuple[str, list[str]]:
    try:
        images, labels = (np.load(data / f"test-{name}.npy", allow_pickle=False) for name in ("images", "labels"))
    except EOFError as error:
        raise ValueError(f"{data}: test-images.npy or test-labels.npy is empty.") from error
    metrics = found.manifest.get("int8" if classifier.precision == INT8 else "metrics")
    promised = metrics.get("accuracy") if isinstance(metrics, dict) else None
    accuracy = float((classifier.probabilities(images).argmax(axis=1) == labels).mean())
    reasons = [f"the manifest says {promised:.2%}" if isinstance(promised, float) else "the manifest promises none"]
    kept = isinstance(promised, float) and accuracy >= promised - ACCURACY_LOST
    return f"{accuracy:.2%} of {len(labels):,} test images on this processor", [] if kept else reasons
