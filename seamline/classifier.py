"""The exported model, ready to answer."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seamline import bundle, sessions
from seamline.likeness import Index, Neighbour
from seamline.sessions import FLOAT, Serving

BATCH = 512  # images at a time, so that memory stays flat
LARGEST_BYTES = 256 * 2**20
MOST_ODDS = 1000

UNKNOWN = "unknown"


class Answer(NamedTuple):
    """What one picture shows."""

    name: str  # of a class, or "unknown"
    probability: float  # 0 … 1


class Classifier:
    """A model, loaded; safe to use from several threads.

    Args:
        path: a bundle's folder, which is verified first, or a bare ONNX file that Seamline exported. None: the bundle
            that came with this package.
        threads: that work on one call, ≥ 1; one leaves a kiosk's other cores alone.
        public_key: 32 bytes; if given, only a bundle signed with its private key is loaded.

    Attributes:
        classes: names, in the order of the probabilities.
        unknown_below: the probability of the likeliest class below which a picture shows something else; 0: never.
        photograph_odds: float32 (classes,): how much more often than the model says a photograph shows each class.
        info: what the model says of itself; of a bundle the manifest.
        digest: SHA-256 of the model's file, which an index remembers.
        precision: int8 or float32: the model that answers.
        int8_failures: why the bundle's int8 model does not answer on this processor.

    Raises:
        ValueError: it is not a model that Seamline exported, or must not be used (BundleError says why), or the
            threads are fewer than one.
        FileNotFoundError: it is not there.
    """

    def __init__(self, path: str | Path | None = None, threads: int = 1, public_key: bytes | None = None) -> None:
        if threads < 1:
            raise ValueError(f"Expected at least one thread. Received {threads}.")
        path = Path(path) if path is not None else bundle.own()
        found = bundle.read(path, public_key) if path.is_dir() else None
        if found is None and public_key is not None:
            raise bundle.BundleError(f"{path} is no bundle: a bare file cannot be signed.")
        try:
            serving = sessions.choose(found, threads) if found else _bare(path, threads)
            told: dict[str, Any] = dict(serving.session.get_modelmeta().custom_metadata_map)
            self.classes: tuple[str, ...] = tuple(json.loads(told["classes"]))
            self.unknown_below = _share(told.get("unknown_below", "0"))
            self.photograph_odds = _odds(told.get("photograph_odds", "{}"), self.classes)
            _require_contract(serving.session, self.classes)
        except KeyError as error:
            raise ValueError(f"{path} is not a model that Seamline exported: its metadata names no classes") from error
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} is not a model that Seamline exported: {error}") from error
        if found and self.classes != found.classes:
            raise bundle.BundleError(f"{path}: its manifest names other classes than its model.")
        self.info: dict[str, Any] = found.manifest if found else told
        self.digest = serving.digest
        self.precision, self.int8_failures = serving.precision, serving.int8_failures
        self._session = serving.session
        self._failures = sessions.failures()
        self._widths = {output.name: output.shape[-1] for output in self._session.get_outputs()}

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The probability of each class for each picture.

        Args:
            images: uint8 (n, 28, 28) or (28, 28), 0 black … 255 white, the garment bright on black.

        Returns:
            float32 (n, classes), rows sum to 1, in the order of `classes`.

        Raises:
            ValueError: another type or shape.
        """
        return self._run("probabilities", images)

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Where each picture lies among others: the nearer two directions, the more alike two garments.

        Args:
            images: as for `probabilities`.

        Returns:
            float32 (n, k), rows of length 1, so that the product of two is their cosine.

        Raises:
            ValueError: another type or shape, or the model was exported without an embedding.
        """
        if "embedding" not in self._widths:
            raise ValueError("This model was exported without an embedding. Export it again: `dvc repro export`.")
        found = self._run("embedding", images)
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        normalised: NDArray[np.float32] = found / np.maximum(lengths, 1e-12)
        return normalised

    def similar(
        self, images: NDArray[np.uint8], index: Index, k: int = 10, *, exact: bool = False
    ) -> list[list[Neighbour]]:
        """What an index has that is like each picture, the most alike first.

        Args:
            images: as for `probabilities`.
            index: of the same model, by `seamline index` or `likeness.Index`.
            k: how many for each picture, ≥ 1; all there are where they are fewer.
            exact: as for `Index.nearest`.

        Returns:
            A list for each picture.

        Raises:
            ValueError: another type or shape, or an index that another model made.
        """
        if index.model != self.digest:
            raise ValueError(
                f"Expected an index that this model made ({self.digest[:12]}). Received one of {index.model[:12]}. "
                "Make it again: seamline index FOLDER"
            )
        return index.nearest(self.embed(images), k, exact=exact)

    def _run(self, output: str, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        images = np.asarray(images)
        if images.shape == (28, 28):
            images = images[None]
        if images.dtype != np.uint8 or images.shape[1:] != (28, 28):
            raise ValueError(
                f"Expected uint8 (n, 28, 28). Received {images.dtype} {images.shape}. "
                "seamline.pictures.read makes such an array of a picture file."
            )
        if not len(images):
            return np.zeros((0, self._widths[output]), np.float32)
        if len(images) > BATCH:
            parts = (images[first : first + BATCH] for first in range(0, len(images), BATCH))
            return np.concatenate([self._run(output, part) for part in parts])
        try:
            found: NDArray[np.float32] = self._session.run([output], {"image": images})[0]
        except self._failures as error:
            raise bundle.BundleError(f"The model fails on this device: {sessions.gist(error)}") from error
        return found

    def classify(self, images: NDArray[np.uint8]) -> list[Answer]:
        """The likeliest class of each picture, with its probability; `images` as for `probabilities`.

        Below `unknown_below` the name is "unknown": 95 % of the images that the model was chosen on, as they are and
        as if photographed, lie above it.
        """
        return [self.best(row) for row in self.probabilities(images).tolist()]

    def classify_views(self, views: NDArray[np.uint8]) -> Answer:
        """What the views of one garment show: `seamline.pictures.from_picture` makes them; as `view_probabilities`."""
        return self.best(self.view_probabilities(views).tolist())

    def view_probabilities(self, views: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The probability of each class for one garment: the mean of its views, weighed if they are a photograph's.

        Args:
            views: uint8 (v, 28, 28), as `seamline.pictures.from_picture` makes them: several of a photograph, whose
                probabilities are multiplied with `photograph_odds`; one of a product shot, taken as it is.

        Returns:
            float32 (classes,), sums to 1.

        Raises:
            ValueError: there is no view, or they are of another type or shape.
        """
        if not len(views):
            raise ValueError("Expected at least one view. Received none.")
        mean: NDArray[np.float32] = self.probabilities(views).mean(axis=0)
        if len(views) == 1:
            return mean
        weighed: NDArray[np.float32] = mean * self.photograph_odds
        weighed /= weighed.sum()
        return weighed

    def best(self, row: Sequence[float]) -> Answer:
        """The answer that one row of `probabilities`, (classes,), amounts to."""
        probability = max(row)  # for one picture, lists take less time than numpy's argmax and max
        name = self.classes[row.index(probability)]
        return Answer(name if probability >= self.unknown_below else UNKNOWN, probability)


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share < 1:
        raise ValueError(f"its metadata has unknown_below {text[:20]!r}, expected 0 … 1")
    return share


def _odds(text: str, classes: tuple[str, ...]) -> NDArray[np.float32]:
    told = json.loads(text)
    usable = isinstance(told, dict) and told.keys() <= set(classes)
    if not usable or not all(type(value) in {int, float} and 0 < value <= MOST_ODDS for value in told.values()):
        raise ValueError(
            f"its metadata has photograph_odds {text[:60]!r}, expected classes and numbers up to {MOST_ODDS}"
        )
    return np.array([told.get(name, 1) for name in classes], np.float32)


def _bare(path: Path, threads: int) -> Serving:
    if not path.is_file():
        raise FileNotFoundError(f"There is no model at {path}. `make run` in Seamline's folder makes one.")
    if path.stat().st_size > LARGEST_BYTES:
        raise ValueError(f"Expected a model of at most {LARGEST_BYTES:,} bytes. Received {path.stat().st_size:,}.")
    return sessions.serve(path.read_bytes(), threads, FLOAT, [])


def _require_contract(session: Any, classes: tuple[str, ...]) -> None:
    """Raw pixels in, probabilities out: what would answer something else is another model."""
    inputs = {one.name: one for one in session.get_inputs()}
    outputs = {one.name: one for one in session.get_outputs()}
    if not classes or not all(isinstance(name, str) for name in classes):
        raise ValueError("its metadata names no classes")
    if list(inputs) != ["image"] or not _fits(inputs["image"], "tensor(uint8)", 28, 28):
        raise ValueError(f"expected image uint8 (n, 28, 28) as its input. Received {_shapes(inputs)}.")
    sound = "probabilities" in outputs and _fits(outputs["probabilities"], "tensor(float)", len(classes))
    if not sound or not ("embedding" not in outputs or _fits(outputs["embedding"], "tensor(float)", None)):
        raise ValueError(
            f"expected probabilities float (n, {len(classes)}) as its output. Received {_shapes(outputs)}."
        )


def _fits(tensor: Any, kind: str, *sides: int | None) -> bool:
    """Whether it is (n, sides) of that type, n being free; None: any number."""
    n, *others = tensor.shape or [0]
    alike = [isinstance(other, int) and side in {None, other} for other, side in zip(others, sides, strict=False)]
    return tensor.type == kind and not isinstance(n, int) and len(others) == len(sides) and all(alike)


def _shapes(tensors: dict[str, Any]) -> str:
    return (", ".join(f"{name} {tensor.type} {tensor.shape}" for name, tensor in tensors.items()) or "none")[:300]
