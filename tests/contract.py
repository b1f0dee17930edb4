"""The contract: whoever answers, Python's command line, the service or the page, answers as Python's functions do.

A place has two methods, `probabilities` of images and `answers` to files; the rest is the same for all.
"""

import base64
import json
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import tritonclient.http

from seamline import Classifier, pictures
from seamline.service.tensors import MOST_IMAGES
from tests import golden
from tests.serving import ROOT, Running

ROUNDED = 2e-6  # of a probability: what is told has six decimals
IN_WEBASSEMBLY = 0.001  # likewise: it adds in an order of its own
LEVELS = 1  # of 255: of what the model saw

Images = npt.NDArray[np.uint8]


class Said(NamedTuple):
    """Of one file. What a place does not tell is None."""

    name: str  # of a kind, "unknown", or "" if it was refused
    probability: float | None = None
    seen: Images | None = None  # (28, 28): the first view
    views: int | None = None


class Place(Protocol):
    tolerance: float  # of a probability

    def probabilities(self, images: Images) -> npt.NDArray[np.floating[Any]]:
        """(n, 10) of (n, 28, 28)."""

    def answers(self, files: Mapping[str, bytes]) -> list[Said]:
        """Of each file, by its name."""


class Functions:
    """What the others are compared with."""

    tolerance = 0.0

    def __init__(self) -> None:
        self.classifier = Classifier(golden.REFERENCE)

    def probabilities(self, images: Images) -> npt.NDArray[np.floating[Any]]:
        return self.classifier.probabilities(images)

    def answers(self, files: Mapping[str, bytes]) -> list[Said]:
        return [self._said(content) for content in files.values()]

    def _said(self, content: bytes) -> Said:
        try:
            views = pictures.from_picture(content)
        except ValueError:  # a garment of its ground's colour
            return Said("")
        answer = self.classifier.classify_views(views)
        return Said(answer.name, answer.probability, views[0], len(views))


class CommandLine:
    """`seamline classify`, on a folder; images by the runtime, one at a time, as a kiosk has them."""

    tolerance = ROUNDED

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def probabilities(self, images: Images) -> npt.NDArray[np.floating[Any]]:
        classifier = Classifier(golden.REFERENCE)
        return np.concatenate([classifier.probabilities(image[None]) for image in images])

    def answers(self, files: Mapping[str, bytes]) -> list[Said]:
        for name, content in files.items():
            (self.folder / name).write_bytes(content)
        command = (sys.executable, "-m", "seamline", "classify", "--model", str(golden.REFERENCE), "--format", "json")
        done = subprocess.run(
            (*command, str(self.folder)), cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode in {0, 1}, done.stderr
        assert "Traceback" not in done.stderr
        told = {Path(line["file"]).name: line for line in map(json.loads, done.stdout.splitlines())}
        return [
            Said(told[name]["name"], told[name]["kinds"][0]["probability"]) if name in told else Said("")
            for name in files
        ]


class Service:
    """`seamline serve`: images as binary tensors, files as they are."""

    tolerance = ROUNDED

    def __init__(self, running: Running) -> None:
        self.running = running

    def probabilities(self, images: Images) -> npt.NDArray[np.floating[Any]]:
        found = []
        with tritonclient.http.InferenceServerClient(f"{self.running.host}:{self.running.port}") as client:
            for first in range(0, len(images), MOST_IMAGES):
                part = images[first : first + MOST_IMAGES]
                tensor = tritonclient.http.InferInput("image", list(part.shape), "UINT8")
                tensor.set_data_from_numpy(part)
                found.append(client.infer("seamline", [tensor]).as_numpy("probabilities"))
        return np.concatenate(found)

    def answers(self, files: Mapping[str, bytes]) -> list[Said]:
        with ThreadPoolExecutor(2) as two:
            return list(two.map(self._said, files.values()))

    def _said(self, content: bytes) -> Said:
        answer = self.running.post("/v1/classify", content)
        if answer.status_code == 422:
            return Said("")
        answer.raise_for_status()
        told = answer.json()
        return Said(told["kind"], told["probability"])


class Page:
    """The page in Chromium."""

    tolerance = IN_WEBASSEMBLY
    RUN = """async (packed) => {
      const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
      const images = Array.from({ length: bytes.length / 784 }, (_, k) => bytes.slice(784 * k, 784 * (k + 1)));
      return Array.from(await seamline.thinker.run(images));
    }"""
    ANSWER = """async (packed) => {
      const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
      try {
        const { order, unknown, seen, views } = await seamline.thinker.answer(new Blob([bytes]));
        const [{ name, probability }] = order;
        return { name: unknown ? "unknown" : name, probability, seen: Array.from(seen), views };
      } catch (error) {
        if (error.state === "no-garment") return null;
        throw error;
      }
    }"""

    def __init__(self, page: Any) -> None:
        self.page = page

    def probabilities(self, images: Images) -> npt.NDArray[np.floating[Any]]:
        found = self.page.evaluate(self.RUN, base64.b64encode(images.tobytes()).decode())
        return np.array(found).reshape(len(images), -1)

    def answers(self, files: Mapping[str, bytes]) -> list[Said]:
        return [self._said(content) for content in files.values()]

    def _said(self, content: bytes) -> Said:
        told = self.page.evaluate(self.ANSWER, base64.b64encode(content).decode())
        if not told:
            return Said("")
        return Said(told["name"], told["probability"], np.array(told["seen"]).reshape(28, 28), told["views"])


def images_that_differ(place: Place, images: Images) -> int:
    """How many are of another class, or have another probability."""
    found, expected = place.probabilities(images), Functions().probabilities(images)
    alike = (np.abs(found - expected) <= place.tolerance).all(axis=1) & (found.argmax(1) == expected.argmax(1))
    return int((~alike).sum())


def files_that_differ(place: Place, files: Mapping[str, bytes]) -> list[str]:
    """Names of those that are called otherwise, or with another probability, or of which the model saw something else."""
    those = zip(files, place.answers(files), Functions().answers(files), strict=True)
    return [name for name, found, expected in those if not alike(found, expected, place.tolerance)]


def alike(found: Said, expected: Said, tolerance: float) -> bool:
    """Whether they say the same, as far as both say anything."""
    if found.name != expected.name or found.views not in {None, expected.views}:
        return False
    if found.probability is not None and abs(found.probability - (expected.probability or 0)) > tolerance:
        return False
    if found.seen is None or expected.seen is None:
        return True
    return bool(np.abs(found.seen - expected.seen.astype(int)).max() <= LEVELS)
