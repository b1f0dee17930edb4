"""The exported model, ready to answer.

onnxruntime is imported only when a classifier is made: its telemetry, on by default since 1.29, can only be switched
off before the import.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seamline import bundle
from seamline.likeness import Index, Neighbour

BATCH = 512  # images at a time, so that memory stays flat
LARGEST_BYTES = 256 * 2**20


class Answer(NamedTuple):
    """What one picture shows."""

    name: str
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
        info: what the model says of itself; of a bundle the manifest.
        digest: SHA-256 of the model's file, which an index remembers.

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
        content = found.files[bundle.MODEL] if found else _bare(path)
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # it burns an idle kiosk's core
        refusals: tuple[type[Exception], ...] = (KeyError, ValueError, RuntimeError, *_ort_errors())
        try:
            # From bytes: they are those that were verified, and the file cannot point to others beside it.
            self._session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            told: dict[str, Any] = dict(self._session.get_modelmeta().custom_metadata_map)
            self.classes: tuple[str, ...] = tuple(json.loads(told["classes"]))
        except refusals as error:
            raise ValueError(f"{path} is not a model that Seamline exported: {_gist(error)}") from error
        if found and self.classes != found.classes:
            raise bundle.BundleError(f"{path}: its manifest names other classes than its model.")
        self.info: dict[str, Any] = found.manifest if found else told
        self.digest = hashlib.sha256(content).hexdigest()

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The probability of each class for each picture.

        Args:
            images: uint8 (n, 28, 28) or (28, 28), 0 black … 255 white, the garment bright on black.

        Returns:
            float32 (n, classes), rows sum to 1, in the order of `classes`.

        Raises:
            ValueError: another type or shape.
        """
        return self._run("probabilities", images, len(self.classes))

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Where each picture lies among others: the nearer two directions, the more alike two garments.

        Args:
            images: as for `probabilities`.

        Returns:
            float32 (n, k), rows of length 1, so that the product of two is their cosine.

        Raises:
            ValueError: another type or shape, or the model was exported without an embedding.
        """
        outputs = {output.name: output.shape[-1] for output in self._session.get_outputs()}
        if "embedding" not in outputs:
            raise ValueError("This model was exported without an embedding. Export it again: `dvc repro export`.")
        found = self._run("embedding", images, outputs["embedding"])
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

    def _run(self, output: str, images: NDArray[np.uint8], width: int) -> NDArray[np.float32]:
        images = np.asarray(images)
        if images.shape == (28, 28):
            images = images[None]
        if images.dtype != np.uint8 or images.shape[1:] != (28, 28):
            raise ValueError(
                f"Expected uint8 (n, 28, 28). Received {images.dtype} {images.shape}. "
                "seamline.pictures.read makes such an array of a picture file."
            )
        parts = [images[first : first + BATCH] for first in range(0, len(images), BATCH)]
        outputs = [self._session.run([output], {"image": part})[0] for part in parts]
        return np.concatenate(outputs) if outputs else np.zeros((0, width), np.float32)

    def classify(self, images: NDArray[np.uint8]) -> list[Answer]:
        """The likeliest class of each picture, with its probability; `images` as for `probabilities`."""
        probabilities = self.probabilities(images)
        best = probabilities.argmax(axis=1)
        return [Answer(self.classes[k], float(row[k])) for k, row in zip(best, probabilities, strict=True)]


def _bare(path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"There is no model at {path}. `make run` in Seamline's folder makes one.")
    if path.stat().st_size > LARGEST_BYTES:
        raise ValueError(f"Expected a model of at most {LARGEST_BYTES:,} bytes. Received {path.stat().st_size:,}.")
    return path.read_bytes()


def _ort_errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises for a file it cannot load; its own classes derive from Exception alone."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return state.InvalidProtobuf, state.InvalidGraph, state.InvalidArgument, state.Fail, state.NotImplemented


def _gist(error: Exception) -> str:
    if isinstance(error, KeyError):
        return "its metadata names no classes"
    return " ".join(str(error).split()).rpartition(" : ")[2][:200]  # behind onnxruntime's codes
