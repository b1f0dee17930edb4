"""A bundle: a folder with a model and everything that a device must know of it, which proves itself.

    manifest.json   format, version, size and SHA-256 of every other file, classes, metrics, provenance
    manifest.sig    Ed25519 signature of manifest.json's bytes, 64 of them; only if it was signed
    model.onnx      raw pixels in, probabilities and an embedding out
    golden.json     images, and what the model must say of them on any processor
    model-int8.onnx, golden-int8.json   the same in 8 bits, where that was found to be worth it
    card.md         the model card: intended use, figures, limits, provenance

A bundle is read once: what is verified is what is loaded, whatever happens to the files afterwards.
"""

import base64
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seamline import ed25519

FORMAT = 1
MANIFEST, SIGNATURE, MODEL, GOLDEN, CARD = "manifest.json", "manifest.sig", "model.onnx", "golden.json", "card.md"
MODEL_INT8, GOLDEN_INT8 = "model-int8.onnx", "golden-int8.json"
REQUIRED = {MODEL, GOLDEN, CARD}
LARGEST_BYTES = 256 * 2**20  # of all files together: a bundle is held in memory
LARGEST_GOLDEN_BYTES = 2**20
LARGEST_MANIFEST_BYTES = 2**20
LARGEST_KEY_BYTES = 4096
KEY_PREFIX = bytes.fromhex("302a300506032b6570032100")  # of every such key: RFC 8410, section 4


class BundleError(ValueError):
    """A bundle that must not be used: which file, and why."""


class Bundle(NamedTuple):
    """A bundle in memory, verified."""

    manifest: dict[str, Any]
    files: dict[str, bytes]  # by name; without the manifest
    signed: bytes  # the manifest's own, which a signature is of

    @property
    def version(self) -> int:
        return int(self.manifest["version"])

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.manifest["classes"])


class Golden(NamedTuple):
    """What the model must say on every processor."""

    images: NDArray[np.uint8]  # (n, 28, 28)
    probabilities: NDArray[np.float32]  # (n, classes)
    tolerance: float  # how far a probability may lie from it

    def differences(self, found: NDArray[np.float32]) -> list[str]:
        """What a model says otherwise, by its probabilities (n, classes) of these images; nothing: it may serve."""
        distance = float(np.abs(found - self.probabilities).max())
        others = int((found.argmax(axis=1) != self.probabilities.argmax(axis=1)).sum())
        reasons = []
        if not distance <= self.tolerance:  # written so that NaN is a difference
            reasons.append(
                f"probabilities differ by {distance:.2g} from the golden vectors, {self.tolerance:.2g} is allowed"
            )
        if others:
            reasons.append(f"{others} of {len(found)} golden images get another class")
        return reasons


def own() -> Path:
    """The bundle that came with this package: a wheel's; in a clone the release that is live, or if nothing was ever
    released the newest export; else the reference.
    """
    here = Path(__file__).parent
    exports = here.parent / "exports"
    of_clone = [exports / "releases/live/bundle", exports / "bundle"] if (here.parent / "dvc.yaml").is_file() else []
    choices = [here / "shipped", *of_clone, here / "reference"]
    return next((path for path in choices if (path / MANIFEST).is_file()), choices[0])


def read(folder: str | Path, public_key: bytes | None = None, oldest: int = 1) -> Bundle:
    """Read and verify a bundle.

    Args:
        folder: that holds it.
        public_key: 32 bytes; if given, the bundle must be signed with its private key.
        oldest: version that is still accepted, so that nobody can bring an old one back.

    Raises:
        BundleError: a file is missing, too many, altered, no plain file or too large; the signature is absent or of
            another key; the version is older; the format is unknown.
    """
    folder = Path(folder)
    content = read_plain(folder, MANIFEST, LARGEST_MANIFEST_BYTES)
    if public_key is not None:  # before a byte of it is interpreted
        _require_signature(folder, content, public_key)
    manifest = _manifest(folder, content)
    if manifest["version"] < oldest:
        raise BundleError(
            f"{folder}: its version is {manifest['version']}, and {oldest} is already here. Nothing was changed."
        )
    _require_no_others(folder, set(manifest["files"]))
    return Bundle(
        manifest, {name: _verified(folder, name, facts) for name, facts in manifest["files"].items()}, content
    )


def golden(bundle: Bundle, name: str = GOLDEN) -> Golden:
    """The golden vectors of a bundle's float model, or of its int8 model (GOLDEN_INT8).

    Raises:
        BundleError: they are not what this format says.
    """
    if len(bundle.files[name]) > LARGEST_GOLDEN_BYTES:
        raise BundleError(f"{name}: expected at most {LARGEST_GOLDEN_BYTES:,} bytes.")
    try:
        found = json.loads(bundle.files[name])
        images = np.stack([np.frombuffer(base64.b64decode(text, validate=True), np.uint8) for text in found["images"]])
        expected = np.array(found["probabilities"], np.float32)
        tolerance = float(found["tolerance"])
        images = images.reshape(-1, 28, 28)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BundleError(f"{name} is not as format {FORMAT} has it ({error}).") from error
    if expected.shape != (len(images), len(bundle.classes)) or not 0 < tolerance < 1 or not np.isfinite(expected).all():
        raise BundleError(f"{name} is not as format {FORMAT} has it: {images.shape} and {expected.shape}.")
    return Golden(images, expected, tolerance)


def public_key(file: Path) -> bytes:
    """The 32 bytes of an Ed25519 public key in a PEM file, as `openssl pkey -pubout` writes it.

    Raises:
        BundleError: it holds none.
    """
    lines = read_plain(file.parent, file.name, LARGEST_KEY_BYTES).decode("ascii", "replace").split("-----")
    try:
        found = base64.b64decode("".join(lines[2].split()), validate=True) if "PUBLIC KEY" in lines[1] else b""
    except (IndexError, ValueError):
        found = b""
    if not found.startswith(KEY_PREFIX) or len(found) != len(KEY_PREFIX) + ed25519.KEY_BYTES:
        raise BundleError(f"{file}: expected an Ed25519 public key, PEM. `openssl pkey -in private.pem -pubout`")
    return found[len(KEY_PREFIX) :]


def _require_signature(folder: Path, content: bytes, public_key: bytes) -> None:
    if not (folder / SIGNATURE).exists():
        raise BundleError(f"{folder} is not signed ({SIGNATURE} is absent), and a public key was given.")
    if not ed25519.verify(public_key, content, read_plain(folder, SIGNATURE, LARGEST_MANIFEST_BYTES)):
        raise BundleError(f"{folder / SIGNATURE}: not the signature of this manifest by this key.")


def _manifest(folder: Path, content: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{folder / MANIFEST} is not JSON.") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise BundleError(f"{folder / MANIFEST}: expected a manifest of format {FORMAT}. Received {found!r}.")
    _require_sound(folder, manifest)
    return manifest


def _require_sound(folder: Path, manifest: dict[str, Any]) -> None:
    classes, files, version = (manifest.get(name) for name in ("classes", "files", "version"))
    sound = (
        isinstance(classes, list)
        and bool(classes)
        and all(isinstance(name, str) for name in classes)
        and type(version) is int
        and version >= 1
        and isinstance(files, dict)
        and all(_plain(name) and _described(facts) for name, facts in files.items())
        and sum(facts["bytes"] for facts in files.values()) <= LARGEST_BYTES
    )
    if not sound:
        raise BundleError(f"{folder / MANIFEST}: classes, version or files are not as format {FORMAT} has them.")
    required = REQUIRED | ({GOLDEN_INT8} if MODEL_INT8 in manifest["files"] else set())
    if missing := required - set(manifest["files"]):
        raise BundleError(f"{folder / MANIFEST} names no {', '.join(sorted(missing))}.")


def _plain(name: str) -> bool:
    return (
        name not in {MANIFEST, SIGNATURE} and name == Path(name).name and not name.startswith(".") and "\0" not in name
    )


def _described(facts: Any) -> bool:
    return (
        isinstance(facts, dict)
        and type(facts.get("bytes")) is int
        and facts["bytes"] >= 0
        and isinstance(facts.get("sha256"), str)
    )


def _require_no_others(folder: Path, named: set[str]) -> None:
    found = {path.name for path in folder.iterdir()} - {MANIFEST, SIGNATURE}
    if extra := sorted(found - named):
        raise BundleError(f"{folder} has a file that its manifest does not name: {extra[0]!r}.")
    if missing := sorted(named - found):
        raise BundleError(f"{folder} lacks {', '.join(missing)}.")


def _verified(folder: Path, name: str, facts: dict[str, Any]) -> bytes:
    content = read_plain(folder, name, facts["bytes"])
    if len(content) != facts["bytes"] or hashlib.sha256(content).hexdigest() != facts["sha256"]:
        raise BundleError(f"{folder / name} is altered: it is not what the manifest describes.")
    return content


def read_plain(folder: Path, name: str, most: int) -> bytes:
    """A plain file's bytes, at most one more than `most`: no link, no pipe that never ends."""
    path = folder / name
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BundleError(f"{path} is not a plain file.")
            content = file.read(most + 1)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}.") from error
    if len(content) > most:
        raise BundleError(f"{path} is larger than {most:,} bytes, which is all that it should have.")
    return content
